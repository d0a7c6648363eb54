"""A system of another package: every step is followed by a nap of a stated length."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.systems.contract import Ride, System
from remora.workloads.contract import Outcome, Session


class SlowLorisRide(Ride):
    """Sleeps after every step."""

    def __init__(self, session: Session, nap_ms: float) -> None:
        super().__init__(session)
        self.nap_s = nap_ms / 1000

    def step(self) -> Outcome:
        outcome = self.session.step()
        time.sleep(self.nap_s)
        return outcome


@dataclass(frozen=True)
class SlowLoris(System):
    """A known cost, to see what the report makes of it."""

    name: ClassVar[str] = "slow-loris"
    title: ClassVar[str] = "a nap after every step"

    nap_ms: float = 20.0
    """Length of the nap in milliseconds."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return SlowLorisRide(session, self.nap_ms)
