"""The copier: what it copies, what it passes over, and that it never gets in training's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tests.checkpoint.tiers.builders import commit, open_folder, state

from remora.checkpoint import inventory
from remora.checkpoint.commit import slot_name
from remora.checkpoint.folder import Folder
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.tiers.contract import Copy, Part
from remora.checkpoint.tiers.copier import Copier
from remora.checkpoint.tiers.objects import ObjectShelf
from remora.checkpoint.tiers.pacing import Backoff
from remora.checkpoint.tiers.view import ShelfStorage
from remora.core.errors import FolderInUse


class Held(ObjectShelf):
    """A real one, whose puts wait where a test holds them, or fail when it says so."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.hold = False
        self.fault: Callable[[], None] = lambda: None
        self.claims = 0

    def claim(self, run: str, who: str) -> object:  # type: ignore[override]
        self.claims += 1
        return super().claim(run, who)

    def put(self, copy: Copy, parts: Sequence[Part]) -> None:
        if self.hold:
            self.begun.release()
            self.go.acquire()
        self.fault()
        super().put(copy, parts)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def shelf(tmp_path: Path) -> Held:
    return Held(f"memory://{tmp_path}")


@pytest.fixture
def folder() -> Iterator[Folder]:
    opened = open_folder()
    yield opened
    opened.close()


def copier(
    folder: Folder, shelf: Held, said: list[str], *, attached: bool = True, **options: object
) -> Copier:
    made = Copier(
        folder, shelf, run=lambda: "a" * 16, who="me", say=said.append,
        backoff=Backoff(0.001, 0.002), **options,  # type: ignore[arg-type]
    )  # fmt: skip
    if attached:
        folder.on_commit.append(made.committed)
    return made


def steps(shelf: Held) -> list[int]:
    return [copy.entry.step for copy in shelf.copies()]


def test_what_is_committed_is_copied_and_reads_the_same(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    made = copier(folder, shelf, said)
    commit(folder, 10)
    made.close(10)
    view = ShelfStorage(shelf)
    (found,) = inventory.committed(view)
    assert inventory.verify(view, found).damage is None
    loaded = inventory.load(view, found)
    assert torch.equal(loaded["weight"], torch.as_tensor(state(10)["weight"]))
    assert loaded["done"] == 10
    assert (made.counters.copied, made.counters.last_step, said) == (1, 10, [])
    assert made.counters.bytes_sent == shelf.copies()[0].nbytes


def test_a_copy_is_the_slot_file_itself(folder: Folder, shelf: Held, said: list[str]) -> None:
    from safetensors.torch import load

    made = copier(folder, shelf, said)
    entry = commit(folder, 3)
    made.close(10)
    (copy,) = shelf.copies()
    room = memoryview(bytearray(copy.nbytes))
    assert shelf.pread(copy, 0, room, 0) == copy.nbytes
    with folder.storage.open(slot_name(entry.slot)) as file:
        original = memoryview(bytearray(file.size()))
        file.pread(original, 0)
    assert room == original
    assert torch.equal(load(bytes(room))["weight"], torch.as_tensor(state(3)["weight"]))


def test_those_that_came_meanwhile_are_passed_over_for_the_newest(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    shelf.hold = True
    made = copier(folder, shelf, said)
    commit(folder, 1)
    shelf.begun.acquire()
    for step in (2, 3, 4, 5, 6):  # keep=2: the slot of step 1 would have been written over twice
        commit(folder, step)
    shelf.hold = False
    shelf.go.release()
    made.close(10)
    assert steps(shelf) == [6, 1]
    assert made.counters.superseded == 4
    view = ShelfStorage(shelf)
    assert [inventory.verify(view, each).damage for each in inventory.committed(view)] == [None] * 2


def test_committing_never_waits_for_a_copy(folder: Folder, shelf: Held, said: list[str]) -> None:
    shelf.hold = True
    made = copier(folder, shelf, said)
    for step in range(1, 12):
        assert commit(folder, step).step == step
    shelf.hold = False
    shelf.go.release(20)
    made.close(10)
    assert steps(shelf)[0] == 11


def test_only_the_newest_copies_stay(folder: Folder, shelf: Held, said: list[str]) -> None:
    made = copier(folder, shelf, said, attached=False, keep=3)
    for step in range(1, 7):
        made.copy(commit(folder, step))
    made.close(10)
    assert steps(shelf) == [6, 5, 4]
    assert len(shelf._names()) == 1 + 2 * 3


def test_a_damaged_slot_is_not_copied(shelf: Held, said: list[str]) -> None:
    folder = open_folder()
    entry = commit(folder, 1)
    with folder.storage.open(slot_name(entry.slot)) as file:
        file.pwrite(memoryview(b"\xff"), 12_345)
    made = copier(folder, shelf, said)
    made.committed(entry)
    made.close(10)
    assert shelf.copies() == []
    assert made.counters.damaged == 1
    assert len(said) == 1
    assert "step 1 is not copied" in said[0]
    assert "chunk" in said[0]
    folder.close()


def test_padding_that_no_hash_covers_is_sent_as_zeros(shelf: Held, said: list[str]) -> None:
    folder = open_folder()
    entry = commit(folder, 1)
    with folder.storage.open(slot_name(entry.slot)) as file:
        size = file.size()
        file.pwrite(memoryview(b"\xff" * 100), size - 100)
    made = copier(folder, shelf, said)
    made.copy(entry)
    (copy,) = shelf.copies()
    room = memoryview(bytearray(100))
    assert shelf.pread(copy, 0, room, size - 100) == 100
    assert bytes(room) == bytes(100)
    folder.close()


def test_failures_are_said_once_and_tried_again_until_it_works(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    failures = iter([OSError(5, "no route"), TimeoutError("too slow"), OSError(5, "no route")])

    def fault() -> None:
        if (error := next(failures, None)) is not None:
            raise error

    shelf.fault = fault
    made = copier(folder, shelf, said)
    commit(folder, 1)
    while made.counters.last_step != 1:
        time.sleep(0.001)
    made.close(10)
    assert (made.counters.failed, made.counters.copied) == (3, 1)
    assert len(said) == 2
    assert "step 1 could not be copied" in said[0]
    assert "no route" in said[0]
    assert "works again" in said[1]


def test_a_second_failure_after_it_worked_is_said_again(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    outcomes = iter([OSError(5, "down"), None, OSError(5, "down"), None])

    def fault() -> None:
        if (error := next(outcomes)) is not None:
            raise error

    shelf.fault = fault
    made = copier(folder, shelf, said)
    for step in (1, 2):
        commit(folder, step)
        while made.counters.last_step != step:
            time.sleep(0.001)
    made.close(10)
    assert ["could not be copied" in line for line in said] == [True, False, True, False]


def test_a_newer_one_is_tried_in_place_of_one_that_failed(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    broken = True

    def fault() -> None:
        if broken:
            raise OSError(5, "down")

    shelf.fault = fault
    made = copier(folder, shelf, said)
    for step in (1, 2, 3):
        commit(folder, step)
        before = made.counters.failed
        while made.counters.failed == before:
            time.sleep(0.001)
    broken = False
    while made.counters.last_step != 3:
        time.sleep(0.001)
    made.close(10)
    assert steps(shelf) == [3]


def test_another_runs_place_is_left_alone(folder: Folder, shelf: Held, said: list[str]) -> None:
    shelf.claim("b" * 16, "process 9 there")
    made = copier(folder, shelf, said)
    commit(folder, 1)
    commit(folder, 2)
    made.close(10)
    assert shelf.copies() == []
    assert len(said) == 1
    assert "another run, last written by process 9 there" in said[0]


def test_who_was_taken_over_says_so_and_stops(folder: Folder, shelf: Held, said: list[str]) -> None:
    made = copier(folder, shelf, said, attached=False)
    made.copy(commit(folder, 1))
    ObjectShelf(shelf.place).claim("a" * 16, "the successor")
    made.copy(commit(folder, 2))
    made.committed(commit(folder, 3))
    made.close(10)
    assert steps(shelf) == [1]
    assert len(said) == 1
    assert "taken over" in said[0]
    assert "the successor" in said[0]


def test_the_end_waits_for_the_newest_but_not_for_a_place_that_fails(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    def fault() -> None:
        raise OSError(5, "down")

    shelf.fault = fault
    made = copier(folder, shelf, said)
    commit(folder, 1)
    began = time.monotonic()
    made.close(60)
    assert time.monotonic() - began < 30
    assert "was not copied" in said[-1]
    assert "the newest there is none" in said[-1]


def test_the_end_does_not_wait_longer_than_it_was_told(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    shelf.hold = True
    made = copier(folder, shelf, said)
    commit(folder, 1)
    shelf.begun.acquire()
    made.close(0.05)
    assert "was not copied" in said[-1]
    shelf.go.release()
    while made._thread is not None and made._thread.is_alive():
        time.sleep(0.001)
    assert shelf.copies() == []  # and what goes on afterwards is given up


def test_a_defect_ends_copying_and_nothing_else(
    folder: Folder, shelf: Held, said: list[str]
) -> None:
    def fault() -> None:
        raise ZeroDivisionError("ours")

    shelf.fault = fault
    made = copier(folder, shelf, said)
    commit(folder, 1)
    commit(folder, 2)
    made.close(10)
    assert len(said) == 1
    assert "ZeroDivisionError: ours" in said[0]
    assert folder.live[0].step == 2


def test_one_that_was_given_up_before_its_turn_is_passed_over(shelf: Held, said: list[str]) -> None:
    folder = open_folder()
    old = commit(folder, 1)
    made = copier(folder, shelf, said, attached=False)
    commit(folder, 2)
    commit(folder, 3)
    made.copy(old)
    assert (shelf.copies(), said, made.counters.superseded) == ([], [], 1)
    folder.close()


def test_one_that_is_archived_meanwhile_is_no_damage(shelf: Held, said: list[str]) -> None:
    folder = Folder(MemoryStorage(), keep=2, in_flight=2, keep_every=1, spare=1)
    old = commit(folder, 1)
    made = copier(folder, shelf, said, attached=False)

    def run() -> str:  # called between pinning and opening
        commit(folder, 2)
        commit(folder, 3)
        return "a" * 16

    made._run = run
    made.copy(old)
    assert (shelf.copies(), said, made.counters.superseded) == ([], [], 1)
    folder.close()


def test_claiming_happens_once(folder: Folder, shelf: Held, said: list[str]) -> None:
    made = copier(folder, shelf, said, attached=False)
    assert shelf.owner() is None  # not before there is something to copy
    made.copy(commit(folder, 1))
    made.copy(commit(folder, 2))
    made.close(10)
    assert shelf.claims == 1
    with pytest.raises(FolderInUse):
        shelf.claim("c" * 16, "x")


def test_the_rate_is_kept(folder: Folder, shelf: Held, said: list[str]) -> None:
    commit(folder, 1, elements=300_000)
    nbytes = folder.live[0].nbytes
    made = copier(folder, shelf, said, bytes_s=4 * nbytes)
    began = time.monotonic()
    made.copy(folder.live[0])
    assert time.monotonic() - began >= 0.2
    assert steps(shelf) == [1]
