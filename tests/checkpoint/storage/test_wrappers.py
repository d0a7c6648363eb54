"""Storages in front of another: they fail when told to, and take as long as told."""

from __future__ import annotations

import errno

import pytest

from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import BLOCK
from remora.checkpoint.storage.faulty import Call, FaultyStorage, every, nth
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.storage.throttled import Throttle, ThrottledStorage


def test_the_nth_call_fails_and_no_other() -> None:
    storage = FaultyStorage(MemoryStorage(), nth(2, errno.ENOSPC))
    file = storage.open("file", create=True)
    file.pwrite(aligned(BLOCK), 0)
    with pytest.raises(OSError, match="No space left") as failed:
        file.fdatasync()
    assert failed.value.errno == errno.ENOSPC
    file.fdatasync()
    assert storage.calls == [
        Call(0, "open", "file"),
        Call(1, "pwrite", "file"),
        Call(2, "fdatasync", "file"),
        Call(3, "fdatasync", "file"),
    ]


def test_every_call_of_a_kind_fails_from_some_time_on() -> None:
    storage = FaultyStorage(MemoryStorage(), every("pwrite", after=2))
    file = storage.open("file", create=True)
    file.pwrite(aligned(BLOCK), 0)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            file.pwrite(aligned(BLOCK), 0)
    file.fdatasync()


def test_a_failing_write_has_written_its_first_half() -> None:
    inner = MemoryStorage()
    file = FaultyStorage(inner, nth(1)).open("file", create=True)
    data = aligned(4 * BLOCK)
    data[:] = b"x" * len(data)
    with pytest.raises(OSError, match="Input/output"):
        file.pwrite(data, 0)
    assert inner.open("file").size() == 2 * BLOCK


def test_a_failing_sync_has_synced_nothing() -> None:
    inner = MemoryStorage()
    file = FaultyStorage(inner, every("fdatasync")).open("file", create=True)
    file.pwrite(aligned(BLOCK), 0)
    with pytest.raises(OSError, match="Input/output"):
        file.fdatasync()
    assert inner.power_loss(len(inner.log)).sectors


class Clock:
    now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_take_their_time_all_together() -> None:
    clock = Clock()
    throttle = Throttle(10, clock=lambda: clock.now, sleep=clock.sleep)
    throttle.charge(20, clock.now)
    throttle.charge(5, clock.now)
    assert clock.now == 102.5


def test_time_in_which_nothing_was_written_is_not_saved_up() -> None:
    clock = Clock()
    throttle = Throttle(10, clock=lambda: clock.now, sleep=clock.sleep)
    throttle.charge(10, clock.now)
    clock.now += 50
    throttle.charge(10, clock.now)
    assert clock.now == 152.0


def test_reading_is_not_throttled() -> None:
    storage = ThrottledStorage(MemoryStorage(), 1e12)
    file = storage.open("file", create=True)
    file.pwrite(aligned(BLOCK), 0)
    slow = ThrottledStorage(storage.inner, 1e-9).open("file")
    assert slow.pread(aligned(BLOCK), 0) == BLOCK
