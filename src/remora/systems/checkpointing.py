"""What the checkpointing systems share: when a save is due, what it held up, when it is durable."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.errors import BadValue
from remora.core.files import sync_directory
from remora.systems.contract import Moved, Ride
from remora.systems.disk import Disk
from remora.systems.retention import Retention
from remora.workloads.contract import Outcome, Session

Written = Callable[[], float]
"""Waits for a write in the background, and tells when it began, on the clock of :class:`Disk`."""


class CheckpointingRide(Ride):
    """Saves after every ``every`` steps and counts how long each save held up the job."""

    def __init__(self, session: Session, every: int) -> None:
        if every < 1:
            raise BadValue(f"every={every} is not an interval in steps; choose 1 or more")
        super().__init__(session)
        self.period = every
        self.steps = 0

    def step(self) -> Outcome:
        outcome = self.session.step()
        self.steps += 1
        if self.steps % self.period == 0:
            self._wait_for_the_step()
            began = time.perf_counter_ns()
            self.save()
            self.stalls_ns.append(time.perf_counter_ns() - began)
        return outcome

    def _wait_for_the_step(self) -> None:
        """Let the device finish what the step launched, so that it is not counted as a stall."""
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)

    @abstractmethod
    def save(self) -> None:
        """Save the session's state, or begin to."""


class FilesRide(CheckpointingRide):
    """Saves to files: counts their bytes, keeps the newest two, knows when they are durable."""

    synced: ClassVar[bool] = True
    """Whether a save that is done is durable. One that is not is made so at the end, by `drain`."""

    def __init__(self, session: Session, directory: Path, every: int, disk_mb_s: int) -> None:
        super().__init__(session, every)
        self.directory = directory
        self.disk = Disk(disk_mb_s)
        self.disk_bytes = 0
        self._retention = Retention()

    def landed(self, target: Path, asked_ns: int, began: float) -> None:
        """The checkpoint at ``target``, asked for and begun then, is written: see it on disk."""
        size = bytes_under(target)
        durable = self.disk.accept(size, began)
        if self.synced:
            self.disk.wait_until(durable)
            self.durable_ns.append(time.perf_counter_ns() - asked_ns)
        self.disk_bytes += size
        self._retention.add(target)

    def drain(self) -> None:
        newest = self._retention.newest
        if newest is not None and not self.synced:
            sync_tree(newest)
            self.disk.wait_until_idle()
        self._retention.wait()

    def moved(self) -> Moved:
        return Moved(disk_bytes=self.disk_bytes)

    def close(self) -> None:
        self._retention.close()


class SynchronousRide(FilesRide):
    """The job waits for the whole save."""

    suffix: ClassVar[str] = ""

    def save(self) -> None:
        asked_ns, began = time.perf_counter_ns(), self.disk.now()
        target = self.directory / f"step-{self.steps}{self.suffix}"
        self.write(target)
        self.landed(target, asked_ns, began)

    @abstractmethod
    def write(self, target: Path) -> None:
        """Write the session's state to ``target``, a file or folder that is not there yet."""


class AsynchronousRide(FilesRide):
    """One save in flight; the next waits for it.

    The optimizer's step waits until the state has been copied, where a system copies it beside the
    next forward and backward: that wait is part of the save's stall.
    """

    def __init__(self, session: Session, directory: Path, every: int, disk_mb_s: int) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        self._thread = ThreadPoolExecutor(1, "remora-in-flight")
        self._in_flight: Future[None] | None = None
        self._guard = UpdateGuard(session, self.stalls_ns, self.wait_copied)

    def save(self) -> None:
        self._finish()
        asked_ns = time.perf_counter_ns()
        target = self.directory / f"step-{self.steps}"
        written = self.begin(target)
        self._in_flight = self._thread.submit(self._see_through, written, target, asked_ns)

    @abstractmethod
    def begin(self, target: Path) -> Written:
        """Begin to save to ``target``, a file or folder that is not there yet."""

    def wait_copied(self) -> None:
        """Return when the state may change again."""

    def _see_through(self, written: Written, target: Path, asked_ns: int) -> None:
        self.landed(target, asked_ns, written())

    def _finish(self) -> None:
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None

    def drain(self) -> None:
        self._finish()
        super().drain()

    def close(self) -> None:
        self._guard.close()
        self._thread.shutdown()
        super().close()


class UpdateGuard:
    """Calls ``wait`` before a session's optimizer changes anything, and counts how long it took.

    ``stalls_ns`` holds one entry a save; waiting adds to the last.
    """

    def __init__(self, session: Session, stalls_ns: list[int], wait: Callable[[], None]) -> None:
        self._stalls_ns, self._wait = stalls_ns, wait
        optimizers = session.optimizers.values()
        self._hooks = [one.register_step_pre_hook(self._before) for one in optimizers]

    def _before(self, *_: object) -> None:
        if not self._stalls_ns:
            return
        began = time.perf_counter_ns()
        self._wait()
        self._stalls_ns[-1] += time.perf_counter_ns() - began

    def close(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


def bytes_under(path: Path) -> int:
    """Bytes of the files in ``path``, a file or a folder."""
    return sum(file.stat().st_size for file in _files(path))


def sync_tree(path: Path) -> None:
    """Make ``path``, a file or a folder with all it holds, durable; its own name included."""
    for file in _files(path):
        sync_file(file)
    for folder in [each for each in path.rglob("*") if each.is_dir()]:
        sync_directory(folder)
    if path.is_dir():
        sync_directory(path)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
