"""A failure, and a crash, at every single call that a shelf in an object store makes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.checkpoint.tiers.faulty_filesystem import Crash, Faulty, FaultyFileSystem

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.tiers.contract import Copy, Owner
from remora.checkpoint.tiers.objects import ObjectShelf

RUN = "0123456789abcdef"
SIZES = (3000, 500)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    fresh = Faulty()
    monkeypatch.setattr(FaultyFileSystem, "now", fresh)
    return fresh


def content(step: int, part: int) -> bytes:
    return bytes((step * 31 + part + n) % 251 for n in range(SIZES[part]))


def put(shelf: ObjectShelf, owner: Owner, step: int) -> Copy:
    entry = Entry(step, step, 0, len(SIZES), 1, bytes(16), 0)
    copy = Copy(owner.generation, owner.session, entry, SIZES)
    pieces = [
        [memoryview(content(step, part))[n : n + 1000] for n in range(0, SIZES[part], 1000)]
        for part in range(len(SIZES))
    ]
    shelf.put(copy, pieces)
    return copy


def whole_steps(url: str) -> list[int]:
    """What somebody else finds there, every byte of it compared."""
    shelf = ObjectShelf(url.replace("faulty:", "memory:"))
    for copy in shelf.copies():
        for part, size in enumerate(SIZES):
            room = memoryview(bytearray(size))
            assert shelf.pread(copy, part, room, 0) == size
            assert room == content(copy.entry.step, part), (copy.entry.step, part)
    return [copy.entry.step for copy in shelf.copies()]


def names(url: str) -> list[str]:
    return sorted(fsspec.filesystem("memory").ls(url.partition("://")[2], detail=False))


class Job:
    """Copies steps 1 to 4 to ``url``, and notes what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.shelf = ObjectShelf(url)
        self.acknowledged: list[int] = []

    def run(self, attempts: int) -> Iterator[str]:
        """Do everything, each part up to ``attempts`` times; gives what failed."""
        owner: Owner | None = None
        for step in (1, 2, 3, 4):
            for _ in range(attempts):
                try:
                    owner = owner or self.shelf.claim(RUN, "me")
                    put(self.shelf, owner, step)
                    self.acknowledged.append(step)
                    break
                except OSError as error:
                    yield str(error)
            try:
                self.shelf.retain(2)
            except OSError as error:
                yield str(error)


def place() -> str:
    MemoryFileSystem.store.clear()  # listing takes time for all there is
    return f"faulty://{secrets.token_hex(4)}/run"


def calls_in_all(faulty: Faulty) -> int:
    url = place()
    assert list(Job(url).run(1)) == []
    assert whole_steps(url) == [4, 3]
    return len(faulty.calls)


def test_every_kind_of_call_is_made(faulty: Faulty) -> None:
    calls_in_all(faulty)
    assert set(faulty.calls) == {"open", "write", "close", "size", "cat_file", "ls", "rm_file"}


@pytest.mark.parametrize("error", [OSError(5, "injected"), RuntimeError("injected")], ids=repr)
def test_a_failure_at_any_call_loses_nothing_and_is_mended_by_trying_again(
    faulty: Faulty, error: Exception
) -> None:
    for number in range(calls_in_all(faulty)):
        faulty.calls.clear()
        faulty.fail_at, faulty.error = number, error
        url = place()
        job = Job(url)
        failures = []
        for failure in job.run(2):
            failures.append(failure)
            found = whole_steps(url)
            assert not job.acknowledged or found[0] >= job.acknowledged[-1], number
        assert len(failures) == 1, (number, failures)
        assert "injected" in failures[0]
        assert job.acknowledged == [1, 2, 3, 4]
        assert whole_steps(url)[:2] == [4, 3]
        faulty.fail_at = None
        job.shelf.retain(2)
        assert whole_steps(url) == [4, 3]
        assert len(names(url)) == 1 + 2 * 3, number


def test_a_crash_at_any_call_leaves_whole_copies_and_a_place_to_go_on(faulty: Faulty) -> None:
    for number in range(calls_in_all(faulty)):
        faulty.calls.clear()
        faulty.crash_at = number
        url = place()
        job = Job(url)
        with pytest.raises(Crash):
            list(job.run(1))
        found = whole_steps(url)
        last = max(job.acknowledged, default=0)
        assert found[:1] in ([last][: last > 0], [last + 1]), number
        faulty.crash_at = None
        successor = ObjectShelf(url)
        owner = successor.claim(RUN, "the next")
        for step in (8, 9):
            put(successor, owner, step)
            successor.retain(2)
        assert whole_steps(url) == [9, 8]
        assert len(names(url)) == 1 + 2 * 3, number


def test_data_without_a_manifest_is_no_copy(faulty: Faulty) -> None:
    url = place()
    shelf = ObjectShelf(url)
    copy = put(shelf, shelf.claim(RUN, "me"), 1)
    manifest = next(name for name in names(url) if "checkpoint" in name and name.endswith(".json"))
    fsspec.filesystem("memory").rm_file(manifest)
    assert shelf.copies() == []
    assert put(shelf, shelf.claim(RUN, "me"), 1).entry == copy.entry
    assert whole_steps(url) == [1]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "huge", "another's"])
def test_a_damaged_manifest_is_no_copy(faulty: Faulty, damage: str) -> None:
    url = place()
    shelf = ObjectShelf(url)
    owner = shelf.claim(RUN, "me")
    put(shelf, owner, 1)
    put(shelf, owner, 2)
    fs = fsspec.filesystem("memory")
    older, newer = (n for n in names(url) if "checkpoint" in n and n.endswith(".json"))
    data = fs.cat_file(newer)
    flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    fs.pipe_file(newer, {
        "cut": data[:-20], "flip": flipped, "empty": b"", "huge": data.ljust(2**20 + 1),
        "another's": fs.cat_file(older),
    }[damage])  # fmt: skip
    assert whole_steps(url) == [1]
    put(shelf, owner, 3)
    shelf.retain(2)
    assert whole_steps(url) == [3, 1]
    assert len(names(url)) == 1 + 2 * 3


def test_what_is_not_ours_is_left_alone(faulty: Faulty) -> None:
    url = place()
    fs = fsspec.filesystem("memory")
    theirs = f"/{url.partition('://')[2]}/checkpoint-notes.txt"
    fs.pipe_file(theirs, b"mine")
    list(Job(url).run(1))
    assert fs.cat_file(theirs) == b"mine"
    assert whole_steps(url) == [4, 3]


def test_a_torn_owners_card_is_written_anew_with_a_greater_generation(faulty: Faulty) -> None:
    url = place()
    shelf = ObjectShelf(url)
    owner = shelf.claim(RUN, "me")
    put(shelf, owner, 1)
    fs = fsspec.filesystem("memory")
    card = next(name for name in names(url) if name.endswith("owner.json"))
    fs.pipe_file(card, fs.cat_file(card)[:10])
    assert shelf.owner() is None
    assert shelf.claim("f" * 16, "the next").generation == owner.generation + 1
