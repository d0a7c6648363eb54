"""The tap attached and nobody subscribed: what merely having Remora there costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.systems.contract import Ride, System
from remora.tap.job import Job
from remora.workloads.contract import Session


class _IdleRide(Ride):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.job = Job()

    def close(self) -> None:
        self.job.detach_all()


@dataclass(frozen=True)
class Idle(System):
    """A job with Remora attached and no service on it."""

    name: ClassVar[str] = "idle"
    title: ClassVar[str] = "tap attached, nobody subscribed"

    def ride(self, session: Session, directory: Path) -> Ride:
        return _IdleRide(session)
