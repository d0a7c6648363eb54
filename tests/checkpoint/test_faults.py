"""Every call to the disk fails once, and from then on: errors surface, and nothing is lost."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from tests.checkpoint.power_loss import Promises, Recovery, Run, explore
from tests.checkpoint.saving import CHUNK

from remora.checkpoint.folder import Folder
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.faulty import Call, Fault, FaultyStorage, nth
from remora.checkpoint.storage.memory import MemoryStorage

pytestmark = pytest.mark.usefixtures("small_ring")
CODES = [errno.EIO, errno.ENOSPC]


class Job:
    """Saves, archives, grows and drops, and takes every error as it comes."""

    def __init__(self, fault: Fault) -> None:
        self.storage = MemoryStorage()
        self.faulty = FaultyStorage(self.storage, fault)
        self.promises = Promises()
        self.errors: list[Exception] = []
        self.runs: list[Run] = []

    def work(self) -> None:
        """Two processes, one after the other."""
        if run := self.opened():
            for step in (1, 2, 3, 4):
                self.save(run, step)
            run.folder.close()
        if run := self.opened():
            try:
                run.resize(9 * CHUNK)
            except OSError as error:
                self.errors.append(error)
            for step in (5, 6, 7, 8):
                self.save(run, step, 2)
            run.folder.close()

    def opened(self) -> Run | None:
        try:
            run = Run(self.storage, self.open_folder, promises=self.promises, keep_every=2)
        except OSError as error:
            self.errors.append(error)
            return None
        self.runs.append(run)
        return run

    def open_folder(self, _: Storage, **options: Any) -> Folder:
        return Folder(self.faulty, **options)

    def save(self, run: Run, step: int, scale: int = 1) -> None:
        try:
            saving = run.begin(step, scale)
        except OSError as error:
            self.errors.append(error)
            return
        try:
            saving.write_all()
            assert run.commit(saving)
        except OSError as error:
            self.errors.append(error)
            run.folder.give_back(saving.place)

    def recovers(self) -> Recovery:
        """Nothing acknowledged is lost, and with the fault gone a new job saves as ever."""
        recovery = Recovery(self.promises.scales)
        recovery.check(self.storage, self.promises, len(self.storage.log))
        again = Run(self.storage, Folder, promises=self.promises, keep_every=2, size=9 * CHUNK)
        for step in (101, 102, 103):
            assert again.save(step)
        recovery.check(self.storage, self.promises, len(self.storage.log))
        return recovery


def calls() -> list[Call]:
    """Every call of a job to which nothing happens."""
    job = Job(lambda call: 0)
    job.work()
    assert not job.errors
    assert len(job.promises.acknowledged) == 8
    return job.faulty.calls


CALLS = calls()


def test_the_job_makes_every_kind_of_call() -> None:
    assert {call.kind for call in CALLS} == {
        "pwrite", "pread", "fdatasync", "allocate", "rename", "remove", "sync_names", "open",
    }  # fmt: skip
    assert len(CALLS) > 100


@pytest.mark.parametrize(
    "code", [CODES[0], pytest.param(CODES[1], marks=pytest.mark.slow)], ids=["EIO", "ENOSPC"]
)
def test_each_call_may_fail_once(code: int) -> None:
    for call in CALLS:
        job = Job(nth(call.number, code))
        job.work()
        assert len(job.errors) <= 1, "one fault is one error"
        assert all(isinstance(each, OSError) and each.errno == code for each in job.errors)
        lost = 8 - len(job.promises.acknowledged)
        assert lost <= (1 if len(job.runs) == 2 else 4), "a fault loses a save, or a process"
        job.recovers()


@pytest.mark.parametrize(
    "code", [CODES[0], pytest.param(CODES[1], marks=pytest.mark.slow)], ids=["EIO", "ENOSPC"]
)
@pytest.mark.parametrize(
    "kinds",
    [{"pwrite"}, {"fdatasync"}, {"pwrite", "allocate", "open"}, {"rename"}, {"sync_names"}],
    ids=["pwrite", "fdatasync", "full", "rename", "sync_names"],
)
def test_a_kind_of_call_may_fail_from_some_time_on(kinds: set[str], code: int) -> None:
    for since in range(0, len(CALLS), 7):

        def fault(call: Call, since: int = since) -> int:
            return code if call.number >= since and call.kind in kinds else 0

        job = Job(fault)
        job.work()
        assert all(isinstance(each, OSError) and each.errno == code for each in job.errors)
        job.recovers()


def test_power_may_be_lost_after_a_fault() -> None:
    for call in CALLS[:: len(CALLS) // 40]:
        lose_power_after(call, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_power_may_be_lost_after_any_fault() -> None:
    for call in CALLS:
        lose_power_after(call, sample=4)


def lose_power_after(call: Call, sample: int) -> None:
    when: list[int] = []

    def fault(each: Call) -> int:
        if each.number != call.number:
            return 0
        when.append(len(job.storage.log))
        return errno.EIO

    job = Job(fault)
    job.work()
    if job.runs:
        explore(job.runs[-1], since=when[0], sample=sample)
