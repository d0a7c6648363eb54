"""The name of a run: one, however many ask for it at once, and the same from job to job."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora.checkpoint.storage.contract import StorageFile
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.tiers.run_name import FILE, RunName


class Crowded(MemoryStorage):
    """Whoever finds no name waits a moment for another to find none either."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._together = threading.Barrier(threads)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        try:
            return super().open(name, create=create, direct=direct)
        except FileNotFoundError:
            with contextlib.suppress(threading.BrokenBarrierError):  # where this one was alone
                self._together.wait(0.2)
            raise


def test_copiers_that_ask_at_once_are_told_the_same() -> None:
    name = RunName(Crowded(2))
    with ThreadPoolExecutor(2) as pool:
        told = [each.result() for each in [pool.submit(name) for _ in range(2)]]
    assert told[0] == told[1] == name()


def test_the_next_job_has_the_same_name() -> None:
    storage = MemoryStorage()
    assert RunName(storage)() == RunName(storage)()


@pytest.mark.parametrize("torn", [b"", b"0123", b"0123456789abcdeX", bytes(16)])
def test_a_torn_name_is_made_anew(torn: bytes) -> None:
    storage = MemoryStorage()
    with storage.open(FILE, create=True) as file:
        file.pwrite(memoryview(torn), 0)
    name = RunName(storage)()
    assert len(name) == 16
    assert RunName(storage)() == name
