"""Checkpoints as CheckFreq makes them: a copy beside the next step, then one write behind it.

After Mohan, Phanishayee and Chidambaram, "CheckFreq: Frequent, Fine-Grained DNN Checkpointing",
FAST 2021, section 4.2: the snapshot overlaps forward and backward and must end before the weights
are updated; persisting it is pipelined with the steps that follow; the next checkpoint waits until
the last one is persisted.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from remora.core.files import sync_directory
from remora.systems.checkpointing import AsynchronousRide, Written
from remora.systems.contract import Ride, System
from remora.systems.tensors import HostCopy
from remora.workloads.contract import Session


class _CheckfreqRide(AsynchronousRide):
    def __init__(self, session: Session, directory: Path, every: int, disk_mb_s: int) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        self._host = HostCopy()
        self._host.take(session.state())
        self._copier = ThreadPoolExecutor(1, "remora-snapshot")
        self._copy: Future[Any] | None = None

    def begin(self, target: Path) -> Written:
        copy = self._copier.submit(self._host.take, self.session.state())
        self._copy = copy

        def written() -> float:
            snapshot, began = copy.result(), self.disk.now()
            self._persist(snapshot, target)
            return began

        return written

    def _persist(self, snapshot: Any, target: Path) -> None:
        aside = target.with_name(f"{target.name}.tmp")
        with aside.open("wb") as file:
            torch.save(snapshot, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        sync_directory(self.directory)

    def wait_copied(self) -> None:
        if self._copy is not None:
            self._copy.result()

    def close(self) -> None:
        super().close()
        self._copier.shutdown()


@dataclass(frozen=True)
class CheckfreqLike(System):
    """One checkpoint in flight, copied beside the step and written by one thread."""

    name: ClassVar[str] = "checkfreq-like"
    title: ClassVar[str] = "as CheckFreq: overlapped copy, one background write with fsync"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _CheckfreqRide(session, directory, self.every, self.disk_mb_s)
