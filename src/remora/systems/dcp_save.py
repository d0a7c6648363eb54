"""``torch.distributed.checkpoint.save``: PyTorch's own checkpoint while the job waits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from remora.systems.checkpointing import SynchronousRide
from remora.systems.contract import Ride, System
from remora.workloads.contract import Session


class _DcpSaveRide(SynchronousRide):
    def __init__(
        self, session: Session, directory: Path, every: int, disk_mb_s: int, threads: int
    ) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        self.threads = threads

    def write(self, target: Path) -> None:
        writer = FileSystemWriter(target, thread_count=self.threads, sync_files=True)
        save(self.session.state(), storage_writer=writer, no_dist=True)


@dataclass(frozen=True)
class DcpSave(System):
    """Synchronous checkpoints, files synced by PyTorch's writer."""

    name: ClassVar[str] = "dcp-save"
    title: ClassVar[str] = "torch.distributed.checkpoint.save with fsync, synchronous"

    every: int = 5
    """Steps between checkpoints."""
    threads: int = 1
    """Writer threads; one is the default of ``FileSystemWriter``."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _DcpSaveRide(session, directory, self.every, self.disk_mb_s, self.threads)
