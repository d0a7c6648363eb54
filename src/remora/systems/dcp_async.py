"""``torch.distributed.checkpoint.async_save``: PyTorch's own checkpoint in the background."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, async_save

from remora.systems.checkpointing import AsynchronousRide, Written
from remora.systems.contract import Ride, System
from remora.systems.one_process_group import OneProcessGroup
from remora.workloads.contract import Session


def _stager(device: torch.device, shared: bool) -> DefaultStager:
    """PyTorch's stager at its defaults, less what its documentation keeps for CUDA.

    One for the whole run: it keeps the memory it staged into.
    """
    cuda = device.type == "cuda"
    options = StagingOptions(
        use_pinned_memory=cuda,
        use_shared_memory=shared,
        use_async_staging=cuda,
        use_non_blocking_copy=cuda,
    )
    return DefaultStager(options)


def _upload(response: Any) -> Future[Any]:
    """The upload's future; with staging in the background the answer is a pair of futures."""
    upload: Future[Any] = getattr(response, "upload_completion", response)
    return upload


class _DcpAsyncRide(AsynchronousRide):
    """At most one save is in flight; a new one waits for the last, as its documentation asks."""

    def __init__(
        self,
        session: Session,
        directory: Path,
        every: int,
        disk_mb_s: int,
        threads: int,
        kind: AsyncCheckpointerType,
    ) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        self.threads, self.kind = threads, kind
        self._by_process = kind is AsyncCheckpointerType.PROCESS
        self._group = OneProcessGroup() if self._by_process else None
        self._stager = _stager(session.device, shared=self._by_process)
        self._staged: Future[Any] | None = None
        if self._by_process:
            self._start_process()

    def _start_process(self) -> None:
        """The first save starts the process, which takes seconds: better before the job begins."""
        target = self.directory / "start"
        _upload(self._save({"nothing": torch.zeros(1)}, target)).result()
        shutil.rmtree(target)

    def _save(self, state: dict[str, Any], target: Path) -> Any:
        return async_save(
            state,
            storage_writer=FileSystemWriter(target, thread_count=self.threads, sync_files=True),
            async_checkpointer_type=self.kind,
            async_stager=self._stager,
            no_dist=not self._by_process,
        )

    def begin(self, target: Path) -> Written:
        response = self._save(self.session.state(), target)
        self._staged = getattr(response, "staging_completion", None)
        began = self.disk.now()
        upload = _upload(response)

        def written() -> float:
            upload.result()
            return began

        return written

    def wait_copied(self) -> None:
        if self._staged is not None:
            self._staged.result()

    def close(self) -> None:
        super().close()
        self._stager.close()
        if self._group is not None:
            self._group.close()


@dataclass(frozen=True)
class DcpAsync(System):
    """Asynchronous checkpoints by a thread of the same process."""

    name: ClassVar[str] = "dcp-async"
    title: ClassVar[str] = "torch.distributed.checkpoint.async_save, one in flight"

    every: int = 5
    """Steps between checkpoints."""
    threads: int = 1
    """Writer threads; one is the default of ``FileSystemWriter``."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _DcpAsyncRide(
            session, directory, self.every, self.disk_mb_s, self.threads,
            AsyncCheckpointerType.THREAD,
        )  # fmt: skip


@dataclass(frozen=True)
class DcpAsyncProcess(System):
    """Asynchronous checkpoints by a process of their own, which the state reaches as shared memory.

    It needs a process group, so one of a single process is made, over gloo.
    """

    name: ClassVar[str] = "dcp-async-process"
    title: ClassVar[str] = "torch.distributed.checkpoint.async_save by a process, one in flight"

    every: int = 5
    """Steps between checkpoints."""
    threads: int = 1
    """Writer threads; one is the default of ``FileSystemWriter``."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _DcpAsyncRide(
            session, directory, self.every, self.disk_mb_s, self.threads,
            AsyncCheckpointerType.PROCESS,
        )  # fmt: skip
