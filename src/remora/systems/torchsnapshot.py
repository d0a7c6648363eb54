"""``torchsnapshot.Snapshot.async_take``: staged while the job waits, written in the background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.systems.checkpointing import AsynchronousRide, Written
from remora.systems.contract import Requirement, Ride, System
from remora.workloads.contract import Session


class _TorchsnapshotRide(AsynchronousRide):
    """A state dictionary is its application state; the job goes on once that is staged."""

    synced = False

    def begin(self, target: Path) -> Written:
        from torchsnapshot import Snapshot, StateDict

        began = self.disk.now()  # it writes while it stages, within its memory budget
        pending = Snapshot.async_take(str(target), {"job": StateDict(**self.session.state())})

        def written() -> float:
            pending.wait()
            return began

        return written


@dataclass(frozen=True)
class Torchsnapshot(System):
    """Asynchronous checkpoints of torchsnapshot's last release; not synced."""

    name: ClassVar[str] = "torchsnapshot"
    title: ClassVar[str] = "torchsnapshot Snapshot.async_take, one in flight, no fsync"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("torchsnapshot", "pip install 'remora[peers]'"),)

    def ride(self, session: Session, directory: Path) -> Ride:
        return _TorchsnapshotRide(session, directory, self.every, self.disk_mb_s)
