"""Which slot may be written: the promises of the slots, under every order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.slots import Decision, Slots


def entry(sequence: int, slot: int) -> Entry:
    return Entry(
        sequence=sequence, step=sequence, slot=slot, parts=1, nbytes=1, root=bytes(16), time_ns=0
    )


class EveryOrder(RuleBasedStateMachine):
    """Saves begin, end, fail and overtake each other, while records take their time."""

    saves: dict[int, int]
    """Of those in flight: the slot of each sequence."""

    @initialize(
        keep=st.integers(2, 4), in_flight=st.integers(1, 4), found=st.sets(st.integers(0, 9))
    )
    def open(self, keep: int, in_flight: int, found: set[int]) -> None:
        live = [entry(sequence, slot) for sequence, slot in enumerate(sorted(found), 1)]
        self.slots = Slots(keep, in_flight, live)
        self.durable = list(reversed(live))
        """What the newest durable record lists."""
        self.recording: Decision | None = None
        self.saves = {}
        self.sequence = len(live)

    @rule(prefer=st.sets(st.integers(0, 9)))
    def take(self, prefer: set[int]) -> None:
        busy = {each.slot for each in self.durable} | set(self.saves.values())
        slot = self.slots.take(prefer)
        assert (slot is None) == (len(self.saves) == self.slots.in_flight)
        if slot is None:
            return
        assert slot not in busy, "what a durable record lists is never handed out"
        if self.recording is not None:
            assert slot not in {each.slot for each in self.recording.live}
        assert slot in prefer or not prefer - busy, "one whose file is there goes first"
        self.sequence += 1
        self.saves[self.sequence] = slot

    @precondition(lambda self: self.saves)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        recording = {each.slot for each in self.recording.live} if self.recording else set()
        free = [each for each, slot in self.saves.items() if slot not in recording]
        if free:
            self.slots.give_back(self.saves.pop(data.draw(st.sampled_from(free))))

    @precondition(lambda self: self.saves and self.recording is None)
    @rule(data=st.data())
    def commit_begins(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.saves)))
        new = entry(sequence, self.saves[sequence])
        decision = self.slots.decide(new)
        kept = sorted([*self.durable, new], reverse=True)[: self.slots.keep]
        if new not in kept:
            assert decision is None, "older than all that are kept"
            self.slots.give_back(self.saves.pop(sequence))
            return
        assert decision is not None
        assert list(decision.live) == kept
        assert {*decision.live, *decision.gives_up} == {*self.durable, new}
        self.slots.begin(decision)
        self.recording = decision

    @precondition(lambda self: self.durable and self.recording is None)
    @rule(data=st.data())
    def drop_begins(self, data: st.DataObject) -> None:
        unwanted = data.draw(st.sampled_from(self.durable))
        self.recording = self.slots.drop(unwanted)
        assert list(self.recording.live) == [each for each in self.durable if each != unwanted]
        self.slots.begin(self.recording)

    @precondition(lambda self: self.recording is not None)
    @rule()
    def record_is_durable(self) -> None:
        assert self.recording is not None
        self.slots.committed(self.recording)
        self.durable = list(self.recording.live)
        for each in self.durable:
            self.saves.pop(each.sequence, None)
        self.recording = None

    @precondition(lambda self: self.recording is not None)
    @rule()
    def record_fails(self) -> None:
        self.slots.aborted()
        self.recording = None

    @invariant()
    def live_is_what_is_durable(self) -> None:
        assert list(self.slots.live) == self.durable
        assert self.slots.taken == set(self.saves.values())
        slots = [each.slot for each in self.durable] + list(self.saves.values())
        assert len(slots) == len(set(slots)), "nothing lies where something else does"


EveryOrder.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
test_every_order_of_events = EveryOrder.TestCase


def test_no_more_slots_are_used_than_there_are() -> None:
    slots, sequence = Slots(keep=2, in_flight=2), 0
    used = set()
    for _ in range(20):
        first, second = slots.take(), slots.take()
        assert first is not None
        assert second is not None
        assert slots.take() is None
        used |= {first, second}
        for slot in (second, first):
            sequence += 1
            decision = slots.decide(entry(sequence, slot))
            assert decision is not None
            slots.begin(decision)
            slots.committed(decision)
    assert used == set(range(slots.count)) == {0, 1, 2, 3}
