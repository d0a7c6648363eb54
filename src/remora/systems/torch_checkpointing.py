"""``torch_checkpointing``: staging beside the next step, writing by a process of its own."""

from __future__ import annotations

import os
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from remora.systems.checkpointing import AsynchronousRide, Written
from remora.systems.contract import Requirement, Ride, System
from remora.workloads.contract import Session


class _TorchCheckpointingRide(AsynchronousRide):
    """Its ``CheckpointManager`` with asynchronous, shared, prewarmed staging.

    Direct I/O is off: its writer hands tensors to ``O_DIRECT`` unaligned, which ext4 and XFS
    refuse with EINVAL.
    """

    synced = False

    def __init__(
        self, session: Session, directory: Path, every: int, disk_mb_s: int, threads: int
    ) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        self._environment = dict(os.environ)
        self._manager = _manager(threads)
        self._manager.prewarm_staging(session.state())
        self._manager._saver._checkpoint_process.wait_for_init()

    def begin(self, target: Path) -> Written:
        future = self._manager.save(str(target), self.session.state())
        began = self.disk.now()

        def written() -> float:
            self._written(future)
            return began

        return written

    @staticmethod
    def _written(future: Future[Any] | None) -> None:
        if future is not None:
            future.result()

    def wait_copied(self) -> None:
        with self._manager.lock():
            pass

    def close(self) -> None:
        super().close()
        self._manager.close()
        for name in os.environ.keys() - self._environment.keys():
            del os.environ[name]  # it sets MKL_SERVICE_FORCE_INTEL for its process, and leaves it


def _manager(threads: int) -> Any:
    from torch_checkpointing import CheckpointManager
    from torch_checkpointing.checkpoint_writer import CheckpointWriterConfig
    from torch_checkpointing.config import AsyncCheckpointSaverConfig
    from torch_checkpointing.staging import CheckpointStagerConfig
    from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

    saver = AsyncCheckpointSaverConfig(
        writer_config=CheckpointWriterConfig(file_write_max_threads=threads),
        staging_config=CheckpointStagerConfig(use_shared_memory=True, use_async_staging=True),
    )
    storage = LocalFileSystemStorageConfig(use_direct_io=False)
    return CheckpointManager(CheckpointManager.Config(save=saver, storage_config=storage))


@dataclass(frozen=True)
class TorchCheckpointing(System):
    """Asynchronous checkpoints of ``torch_checkpointing``; neither synced nor checksummed."""

    name: ClassVar[str] = "torch-checkpointing"
    title: ClassVar[str] = "torch_checkpointing, staging overlapped, one in flight, no fsync"

    every: int = 5
    """Steps between checkpoints."""
    threads: int = 1
    """Files written at once; one is its default."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("torch_checkpointing", "pip install 'remora[peers]'"),)

    def ride(self, session: Session, directory: Path) -> Ride:
        return _TorchCheckpointingRide(session, directory, self.every, self.disk_mb_s, self.threads)
