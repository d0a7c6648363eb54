"""Ours: the check service in the process, with the invariants it checks as an option."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from remora.core.errors import BadValue, Unavailable
from remora.systems.contract import Another, Ride, System
from remora.systems.invariant_sets import (
    DEPLOYED,
    LEARNED,
    NONE,
    SETS,
    VARIABLES,
    learn,
    missing_deployed,
    nothing_in,
    path_of_deployed,
)
from remora.tap.job import Job
from remora.workloads.contract import Outcome, Session

if TYPE_CHECKING:
    from remora.check.report import Violation
    from remora.check.services import CheckService


class _CheckRide(Ride):
    """The service on a job of its own. One that fails raises: it must not pass for a cheap one."""

    def __init__(self, session: Session, service: CheckService) -> None:
        super().__init__(session)
        self.job, self.service, self.steps = Job(strict=True), service, 0
        self.job.attach(service)

    def step(self) -> Outcome:
        self.steps += 1
        return self.session.step()

    def counts(self) -> Mapping[str, float]:
        report = self.service.report()
        return {
            "invariants": report.invariants,
            "triggered": len(report.triggered),
            "violated": len(report.violations),
            "judged_per_step": self.service.judged / max(1, self.steps),
        }

    def close(self) -> None:
        self.job.detach_all()


@dataclass(frozen=True)
class RemoraCheck(System):
    """Invariants checked in the process, at every step."""

    name: ClassVar[str] = "check"
    title: ClassVar[str] = "the check service: invariants checked in the process, every step"

    invariants: str = NONE
    """Which: ``deployed-100`` (TrainCheck's), ``learned`` from another run of the workload,
    ``variables`` (those of them that are about variables), ``none``, or a file."""
    deployed: str = ""
    """The file with TrainCheck's deployed invariants; empty is where it lies beside a checkout."""

    def unavailable(self) -> str | None:
        return missing_deployed(self.deployed) if self.invariants == DEPLOYED else None

    def preparation(self) -> str:
        return LEARNED if self.invariants in (LEARNED, VARIABLES) else ""

    def prepare(self, another: Another, kept: Path) -> None:
        learn(another, kept)

    def prepared(self, kept: Path) -> System:
        return replace(self, invariants=str(kept / f"{self.invariants}.inv"))

    def ride(self, session: Session, directory: Path) -> Ride:
        if self.invariants != NONE:
            return _CheckRide(session, _service(self._file()))
        with nothing_in(directory) as file:
            return _CheckRide(session, _service(file))

    def _file(self) -> Path:
        if self.invariants == DEPLOYED:
            if reason := self.unavailable():
                raise Unavailable(f"{self.name} cannot run: {reason}")
            return path_of_deployed(self.deployed)
        if self.invariants in SETS:
            raise BadValue(
                f"invariants={self.invariants} are learned by the lab before a trial; "
                f"name a file, or one of: {DEPLOYED}, {NONE}"
            )
        return Path(self.invariants)


def _service(file: Path) -> CheckService:
    from remora.check.services import CheckService

    return CheckService(file, on_violation=_not_told, stderr=io.StringIO())


def _not_told(violation: Violation) -> None:
    """The report counts them."""
