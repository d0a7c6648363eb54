"""Nothing at all: what every overhead is a ratio to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.systems.contract import Ride, System
from remora.workloads.contract import Session


@dataclass(frozen=True)
class Native(System):
    """The job alone."""

    name: ClassVar[str] = "native"
    title: ClassVar[str] = "the job alone"

    def ride(self, session: Session, directory: Path) -> Ride:
        return Ride(session)
