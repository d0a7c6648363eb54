"""The checkpointer as a script uses it: what is saved, when, and what becomes of trouble."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

import remora
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.reading import checkpoints
from remora.checkpoint.storage.contract import StorageFile
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage
from remora.core.errors import BadValue, CheckpointUnusable, FolderInUse, SaveFailed

WAYS: list[Literal["thread", "fork"]] = ["thread", "fork"]


class Job:
    """A small training job of which every step changes every tensor."""

    def __init__(self, width: int = 16) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)
        self.width = width

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def train(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(torch.randn(4, self.width)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return float(loss.detach())

    def losses(self, steps: int) -> list[float]:
        return [self.train() for _ in range(steps)]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What the user was told since this was last asked."""
    return lambda: capsys.readouterr().err


def kept(folder: Path) -> list[Entry]:
    """The committed checkpoints, newest first."""
    found = checkpoints(LocalStorage(folder))
    return [each.entry for each in found if each.kind != "given up"]


class _GatedFile(WrappedFile):
    def __init__(self, inner: StorageFile, gate: threading.Event) -> None:
        super().__init__(inner)
        self._gate = gate

    def pwrite(self, data: memoryview, offset: int) -> None:
        assert self._gate.wait(30)
        super().pwrite(data, offset)


class Gated(WrappedStorage):
    """Storage that writes nothing while its gate is shut."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())
        self.gate = threading.Event()
        self.gate.set()

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return _GatedFile(self.inner.open(name, create=create, direct=direct), self.gate)


class _FailingFile(WrappedFile):
    def __init__(self, inner: StorageFile, storage: Failing) -> None:
        super().__init__(inner)
        self._storage = storage

    def pwrite(self, data: memoryview, offset: int) -> None:
        if self._storage.code:
            raise OSError(self._storage.code, os.strerror(self._storage.code))
        super().pwrite(data, offset)


class Failing(WrappedStorage):
    """Storage of which every write fails while it has a ``code``."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())
        self.code = 0

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return _FailingFile(self.inner.open(name, create=create, direct=direct), self)


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_job_computes_what_an_undisturbed_one_does(
    tmp_path: Path, way: Literal["thread", "fork"]
) -> None:
    whole = Job().losses(12)
    with remora.Checkpointer(tmp_path, every=1, snapshot=way, when_slow="block") as saver:
        job = Job()
        assert saver.restore(**job.parts) is None
        for step in range(7):
            job.train()
            saver.step(step)
        saver.wait()
        assert saver.counters.last_step == 7
    again = Job()
    with remora.Checkpointer(tmp_path, every=1, snapshot=way) as saver:
        assert saver.restore(**again.parts) == 7
        assert again.losses(5) == whole[7:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("memory", [None, 2 * 4096])
def test_what_is_saved_is_the_state_of_its_step_whatever_comes_after(
    tmp_path: Path, way: Literal["thread", "fork"], memory: int | None
) -> None:
    """Also where the state goes through two buffers that are much smaller than it is."""
    job, then = Job(64), {}
    with remora.Checkpointer(
        tmp_path, every=1, snapshot=way, chunk_bytes=4096, memory_bytes=memory, when_slow="block"
    ) as saver:
        saver.restore(**job.parts)
        for step in range(4):
            job.train()
            saver.save(step + 1)
            then[step + 1] = {k: v.clone() for k, v in job.model.state_dict().items()}
    for step in (2, 3, 4):
        other = Job(64)
        with remora.Checkpointer(tmp_path) as saver:
            assert saver.restore(step, **other.parts) == step
        assert all(torch.equal(then[step][k], v) for k, v in other.model.state_dict().items())


def test_the_newest_few_stay_and_some_for_good(tmp_path: Path) -> None:
    job = Job()
    with remora.Checkpointer(tmp_path, every=2, keep=2, keep_every=6) as saver:
        saver.restore(**job.parts)
        for step in range(16):
            job.train()
            assert saver.step(step) == (step % 2 == 1)
            saver.wait()
    assert sorted(each.step for each in kept(tmp_path)) == [6, 12, 14, 16]


def test_a_damaged_checkpoint_is_passed_over_and_said_so(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    job = Job()
    with remora.Checkpointer(tmp_path, every=1) as saver:
        saver.restore(**job.parts)
        for step in range(3):
            job.train()
            saver.save(step + 1)
            saver.wait()
    newest = checkpoints(LocalStorage(tmp_path))[0]
    with (tmp_path / newest.part_name(0)).open("r+b") as file:
        file.seek(9000)
        file.write(b"damage")
    said()
    with remora.Checkpointer(tmp_path) as saver:
        assert saver.restore(**Job().parts) == 2
    assert "step 3" in said()


# ---------------------------------------------------------------- storage that is slow


def test_resume_restores_what_is_tracked_and_says_where(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    job = Job()
    with remora.Checkpointer(tmp_path, every=1) as saver:
        saver.track(**job.parts)
        assert saver.resume() is None
        assert said() == ""
        saver.save(7)
    with remora.Checkpointer(tmp_path, every=1) as saver:
        saver.track(**Job().parts)
        assert saver.resume() == 7
        assert f"resuming at step 7 from {tmp_path}" in said()


def test_asked_too_often_it_skips_and_says_so_once(said: Callable[[], str]) -> None:
    storage, job = Gated(), Job()
    with remora.Checkpointer("nowhere", every=1, storage=storage) as saver:
        saver.restore(**job.parts)
        assert saver.save(1)
        saver.wait()
        storage.gate.clear()
        assert [saver.save(step) for step in (2, 3, 4, 5)] == [True, True, False, False]
        storage.gate.set()
        saver.wait()
        assert (saver.counters.skipped, saver.counters.committed) == (2, 3)
    assert said().count("asked for more often than storage can") == 1


@contextmanager
def held_up(when_slow: Literal["block", "supersede"]) -> Iterator[remora.Checkpointer]:
    """After four saves, of which the fourth came while storage took none of two before it."""
    storage, job = Gated(), Job()
    with remora.Checkpointer("nowhere", every=1, storage=storage, when_slow=when_slow) as saver:
        saver.restore(**job.parts)
        assert saver.save(1)
        saver.wait()
        storage.gate.clear()
        assert all(saver.save(step) for step in (2, 3))
        threading.Timer(0.2, storage.gate.set).start()
        assert saver.save(4)
        saver.wait()
        yield saver


def test_asked_to_block_it_waits_and_counts_that_as_stall() -> None:
    with held_up("block") as saver:
        assert (saver.counters.skipped, saver.counters.committed) == (0, 4)
        assert saver.counters.stall_ns[-1] > 0.1e9


def test_asked_to_supersede_the_newest_goes_first() -> None:
    with held_up("supersede") as saver:
        assert saver.counters.superseded == 1
        assert saver.counters.last_step == 4


# ---------------------------------------------------------------- storage that fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_training_goes_on_when_storage_fails_and_saves_again_when_it_is_well(
    code: int, said: Callable[[], str]
) -> None:
    storage, job = Failing(), Job()
    with remora.Checkpointer("nowhere", every=1, storage=storage) as saver:
        saver.restore(**job.parts)
        saver.save(1)
        saver.wait()
        storage.code = code
        for step in (2, 3):
            saver.save(step)
            saver.wait()
        lines = said().splitlines()
        assert lines == [
            f"remora: checkpoint: step 2 was not saved: {os.strerror(code)}; the last whole one "
            "is of step 1; training goes on"
        ]
        assert saver.counters.failed == 2
        storage.code = 0
        saver.save(4)
        saver.wait()
        assert saver.counters.last_step == 4
        assert saver.restore(**Job().parts) == 4


def test_or_stops_if_that_is_asked_for() -> None:
    storage, job = Failing(), Job()
    saver = remora.Checkpointer("nowhere", every=1, storage=storage, on_error="raise")
    saver.restore(**job.parts)
    saver.save(1)
    saver.wait()
    storage.code = errno.ENOSPC
    saver.save(2)
    with pytest.raises(SaveFailed, match="No space left on device; the last whole one is of step"):
        saver.wait()
    saver.close()


def test_a_fork_says_why_it_could_not_write(said: Callable[[], str]) -> None:
    storage, job = Failing(), Job()
    with remora.Checkpointer("nowhere", every=1, storage=storage, snapshot="fork") as saver:
        saver.restore(**job.parts)
        storage.code = errno.EIO
        saver.save(1)
        saver.wait()
        assert "Input/output error" in said()
        assert saver.counters.failed == 1


def test_a_killed_fork_fails_its_save_and_no_other(
    tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(save: object) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    job = Job()
    with remora.Checkpointer(tmp_path, every=1, snapshot="fork") as saver:
        saver.restore(**job.parts)
        with monkeypatch.context() as patched:
            patched.setattr("remora.checkpoint.forked._write_all", die)
            saver.save(1)
            saver.wait()
        assert "the process that wrote the checkpoint died" in said()
        saver.save(2)
        saver.wait()
        assert saver.counters.last_step == 2


def test_a_job_that_forks_itself_leaves_saving_to_the_parent(tmp_path: Path) -> None:
    job = Job()
    with remora.Checkpointer(tmp_path, every=1) as saver:
        saver.restore(**job.parts)
        saver.save(1)
        child = os.fork()
        if child == 0:
            saver.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        saver.save(2)
        saver.wait()
        assert saver.counters.last_step == 2


# ---------------------------------------------------------------- the folder


def test_two_jobs_do_not_share_a_folder(tmp_path: Path) -> None:
    with remora.Checkpointer(tmp_path), pytest.raises(FolderInUse, match=str(os.getpid())):
        remora.Checkpointer(tmp_path)
    remora.Checkpointer(tmp_path).close()


def test_a_path_that_is_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointUnusable, match="cannot be written: Not a directory"):
        remora.Checkpointer(tmp_path / "file" / "runs")


def test_a_script_that_never_closes_it_loses_nothing(tmp_path: Path) -> None:
    script = (
        "import remora, torch\n"
        "model = torch.nn.Linear(300, 300)\n"
        f"saver = remora.Checkpointer({str(tmp_path)!r}, every=1)\n"
        "saver.restore(model=model)\n"
        "saver.step(0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    (only,) = kept(tmp_path)
    assert only.step == 1


def test_nothing_named_is_said_so(tmp_path: Path) -> None:
    saver = remora.Checkpointer(tmp_path, every=1)
    with saver, pytest.raises(BadValue, match="nothing to save is named"):
        saver.save(1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"every": 0}, "every=0"),
        ({"every": "often"}, "every='often'"),
        ({"keep": 1}, "keep=1"),
        ({"in_flight": 0}, "in_flight=0"),
        ({"chunk_bytes": 5000}, "multiple of 4096"),
        ({"when_slow": "panic"}, "choose one of skip, block, supersede"),
        ({"on_error": "ignore"}, "choose one of warn, raise"),
        ({"snapshot": "magic"}, "choose one of thread, fork"),
        ({"max_overhead": 0}, "max_overhead"),
        ({"keep_every": 0}, "keep_every=0"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        remora.Checkpointer(tmp_path, **wrong)


def test_the_optimizers_step_waits_for_the_copy() -> None:
    """GIVEN a copy that cannot go on
    THEN the next step of the optimizer begins when it can, and that wait is the stall."""
    storage, job = Gated(), Job(64)
    with remora.Checkpointer(
        "nowhere", every=1, storage=storage, chunk_bytes=4096, memory_bytes=8192
    ) as saver:
        saver.restore(**job.parts)
        job.train()
        saver.save(1)
        saver.wait()
        storage.gate.clear()
        saver.save(2)
        threading.Timer(0.2, storage.gate.set).start()
        began = time.perf_counter()
        job.train()
        assert time.perf_counter() - began > 0.1
        assert saver.counters.stall_ns[-1] > 0.1e9
