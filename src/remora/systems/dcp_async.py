"""``torch.distributed.checkpoint.async_save``: PyTorch's own checkpoint in the background."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from remora.systems.checkpointing import CheckpointingRide, bytes_under
from remora.systems.contract import Ride, System
from remora.workloads.contract import Session


class _DcpAsyncRide(CheckpointingRide):
    """At most one save is in flight; a new one waits for the last, as its documentation asks."""

    def __init__(self, session: Session, directory: Path, every: int, threads: int) -> None:
        super().__init__(session, directory, every)
        self.threads = threads
        self.in_flight: tuple[Future[Any], Path] | None = None

    def save(self) -> None:
        self._finish()
        target = self.directory / f"step-{self.steps}"
        writer = FileSystemWriter(target, thread_count=self.threads, sync_files=True)
        future = async_save(self.session.state(), storage_writer=writer, no_dist=True)
        self.in_flight = (self._as_future(future), target)

    @staticmethod
    def _as_future(response: Any) -> Future[Any]:
        """Plain future of the upload; some versions answer with a pair of futures."""
        return getattr(response, "upload_completion", response)  # type: ignore[no-any-return]

    def _finish(self) -> None:
        if self.in_flight is None:
            return
        future, target = self.in_flight
        future.result()
        self.in_flight = None
        self.disk_bytes += bytes_under(target)
        for older in self.directory.iterdir():
            if older != target:
                shutil.rmtree(older)

    def drain(self) -> None:
        self._finish()

    def close(self) -> None:
        self._finish()


@dataclass(frozen=True)
class DcpAsync(System):
    """Asynchronous checkpoints by a thread of the same process."""

    name: ClassVar[str] = "dcp-async"
    title: ClassVar[str] = "torch.distributed.checkpoint.async_save, one in flight"

    every: int = 5
    """Steps between checkpoints."""
    threads: int = 1
    """Writer threads; one is the default of ``FileSystemWriter``."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _DcpAsyncRide(session, directory, self.every, self.threads)
