"""Ours at its broadest: everything that learning watches, recorded to a trace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from remora.systems.checkpointing import bytes_under
from remora.systems.contract import Moved, Ride, System
from remora.tap.job import Job
from remora.workloads.contract import Session

if TYPE_CHECKING:
    from remora.check.services import RecordService


class _RecordRide(Ride):
    """The service on a job of its own. One that fails raises: it must not pass for a cheap one."""

    def __init__(self, session: Session, service: RecordService, folder: Path) -> None:
        super().__init__(session)
        self.job, self.service, self.folder = Job(strict=True), service, folder
        self.job.attach(service)

    def drain(self) -> None:
        self.service.flush()

    def moved(self) -> Moved:
        return Moved(disk_bytes=bytes_under(self.folder))

    def close(self) -> None:
        self.job.detach_all()


@dataclass(frozen=True)
class RemoraRecord(System):
    """What ``--record`` of ``remora run`` does."""

    name: ClassVar[str] = "record"
    title: ClassVar[str] = "the record service: all that learning watches, to a trace"

    def ride(self, session: Session, directory: Path) -> Ride:
        from remora.check.services import RecordService

        return _RecordRide(session, RecordService(directory), directory)
