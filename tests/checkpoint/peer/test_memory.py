"""What a peer holds: never more than its memory, never another run's loss."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.peer.memory import MAX_RUNS, Gone, Held, Memory, NoRoom
from remora.checkpoint.tiers.contract import Copy, Owner
from remora.core.errors import FolderInUse

LIMIT = 100_000


def copy_of(owner: Owner, sequence: int, *sizes: int) -> Copy:
    entry = Entry(sequence, sequence, 0, len(sizes), 1, bytes(16), 0)
    return Copy(owner.generation, owner.session, entry, sizes)


def fill(held: Held) -> None:
    for part, size in enumerate(held.copy.sizes):
        room = held.room(part, held.filled[part], size - held.filled[part])
        room[:] = bytes([held.copy.entry.sequence % 251]) * len(room)
        held.arrived(part, len(room))


def put(memory: Memory, name: str, copy: Copy) -> None:
    held = memory.begin(name, copy)
    assert held is not None
    fill(held)
    memory.commit(name, held)


def test_a_third_copy_takes_the_place_of_the_oldest_when_memory_is_short() -> None:
    memory = Memory(LIMIT)
    owner = memory.claim("a", "run", "me")
    for sequence in (1, 2, 3):
        put(memory, "a", copy_of(owner, sequence, 40_000))
    assert [copy.entry.sequence for copy in memory.copies("a")] == [3, 2]
    assert memory.used == 80_000


def test_the_newest_copy_is_never_given_up_for_one_that_has_not_arrived() -> None:
    memory = Memory(LIMIT)
    owner = memory.claim("a", "run", "me")
    put(memory, "a", copy_of(owner, 1, 60_000))
    with pytest.raises(NoRoom, match=r"58\.6 KiB do not fit: the newest copy of this run takes"):
        memory.begin("a", copy_of(owner, 2, 60_000))
    assert [copy.entry.sequence for copy in memory.copies("a")] == [1]


def test_other_runs_keep_what_they_have() -> None:
    memory = Memory(LIMIT)
    first, second = memory.claim("a", "run-a", "me"), memory.claim("b", "run-b", "you")
    for sequence in (1, 2):
        put(memory, "a", copy_of(first, sequence, 30_000))
    with pytest.raises(NoRoom, match="other runs 58"):
        memory.begin("b", copy_of(second, 1, 50_000))
    put(memory, "b", copy_of(second, 1, 30_000))
    assert len(memory.copies("a")) == 2


def test_what_came_only_in_part_is_not_kept() -> None:
    memory = Memory(LIMIT)
    owner = memory.claim("a", "run", "me")
    held = memory.begin("a", copy_of(owner, 1, 1000, 500))
    assert held is not None
    held.room(0, 0, 1000)
    held.arrived(0, 1000)
    with pytest.raises(ValueError, match="not whole"):
        memory.commit("a", held)
    memory.abandon("a", held)
    assert (memory.copies("a"), memory.used) == ([], 0)


@pytest.mark.parametrize(
    ("part", "offset", "count"), [(0, 1, 10), (1, 0, 1), (-1, 0, 1), (0, 0, 1001), (0, -1, 5)]
)
def test_a_piece_out_of_turn_has_no_room(part: int, offset: int, count: int) -> None:
    memory = Memory(LIMIT)
    held = memory.begin("a", copy_of(memory.claim("a", "run", "me"), 1, 1000))
    assert held is not None
    with pytest.raises(ValueError):
        held.room(part, offset, count)


def test_memory_is_used_again_but_not_while_it_is_read() -> None:
    memory = Memory(LIMIT)
    owner = memory.claim("a", "run", "me")
    put(memory, "a", first := copy_of(owner, 1, 10_000))
    put(memory, "a", copy_of(owner, 2, 10_000))
    with memory.reading("a", first, 0, 0, 100) as data:
        memory.retain("a", 1)
        put(memory, "a", copy_of(owner, 3, 10_000))
        assert data == bytes([1]) * 100
    memory.retain("a", 1)
    (retired,) = memory._retired
    held = memory.begin("a", copy_of(owner, 4, 10_000))
    assert held is not None
    assert held.parts is retired.parts
    assert memory._retired == []


def test_a_new_owner_ends_what_the_old_one_was_sending() -> None:
    memory = Memory(LIMIT)
    old = memory.claim("a", "run", "me")
    held = memory.begin("a", copy_of(old, 1, 1000))
    assert held is not None
    memory.claim("a", "run", "the next")
    assert memory.used == 0
    with pytest.raises(ValueError):
        held.room(0, 0, 10)
    with pytest.raises(FolderInUse, match="the next"):
        memory.commit("a", held)


def test_there_is_an_end_to_runs() -> None:
    memory = Memory(LIMIT)
    for number in range(MAX_RUNS):
        memory.claim(str(number), "run", "me")
    memory.claim("0", "run", "me")
    with pytest.raises(NoRoom):
        memory.claim("one more", "run", "me")


class Holding(RuleBasedStateMachine):
    """Jobs of three runs come, send, break off and read, in any order."""

    names = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(LIMIT)
        self.owners: dict[str, Owner] = {}
        self.arriving: dict[str, Held] = {}
        self.newest: dict[str, Copy] = {}
        self.sequence = 0

    @rule(name=names)
    def claim(self, name: str) -> None:
        self.owners[name] = self.memory.claim(name, name, "me")
        self.arriving.pop(name, None)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), sizes=st.lists(st.integers(1, 60_000), min_size=1, max_size=3))
    def begin(self, data: st.DataObject, sizes: list[int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.owners)))
        self.sequence += 1
        copy = copy_of(self.owners[name], self.sequence, *sizes)
        self.arriving.pop(name, None)
        try:
            held = self.memory.begin(name, copy)
        except NoRoom:
            return
        assert held is not None
        self.arriving[name] = held

    @precondition(lambda self: self.arriving)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.arriving)))
        held = self.arriving.pop(name)
        fill(held)
        self.memory.commit(name, held)
        self.newest[name] = held.copy

    @precondition(lambda self: self.arriving)
    @rule(data=st.data())
    def break_off(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.arriving)))
        self.memory.abandon(name, self.arriving.pop(name))

    @rule(name=names, keep=st.integers(-1, 3))
    def retain(self, name: str, keep: int) -> None:
        self.memory.retain(name, keep)

    @invariant()
    def within_its_memory(self) -> None:
        assert 0 <= self.memory.used <= self.memory.used + self.memory._idle <= LIMIT

    @invariant()
    def the_newest_of_every_run_is_whole(self) -> None:
        for name, copy in self.newest.items():
            assert self.memory.copies(name)[0] == copy
            for part, size in enumerate(copy.sizes):
                with self.memory.reading(name, copy, part, 0, size + 5) as data:
                    assert data == bytes([copy.entry.sequence % 251]) * size

    @invariant()
    def nobody_reads_what_is_anothers(self) -> None:
        for name, copy in self.newest.items():
            for other in "abc":
                if other != name:
                    with pytest.raises(Gone), self.memory.reading(other, copy, 0, 0, 1):
                        pass


Holding.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
TestHolding = Holding.TestCase
