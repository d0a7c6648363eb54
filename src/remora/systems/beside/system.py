"""Serving beside training: requests come as they come, and another job wants the same device."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.clock import SystemClock
from remora.core.errors import BadValue, Unavailable
from remora.share.arrivals.contract import Arrivals
from remora.share.arrivals.invocations import busiest_function
from remora.share.arrivals.registry import parse_arrivals
from remora.systems.beside import service_time, sharing
from remora.systems.beside.cores import pinned, shared_cores
from remora.systems.beside.executor import Setting, Stage
from remora.systems.beside.job import BestEffortProcess
from remora.systems.beside.order import Order
from remora.systems.beside.ride import BesideRide
from remora.systems.contract import Another, Ride, System
from remora.workloads.contract import Session


@dataclass(frozen=True)
class Beside(System):
    """Serves in an open loop, alone or beside a best-effort job in a process of its own.

    Both run on the same cores. How long a request takes alone is found once for a workload, and
    with the load it sets the rate at which requests come.
    """

    name: ClassVar[str] = "beside"
    title: ClassVar[str] = "requests as they come, beside a job that trains"

    job: str = ""
    """The workload of the best-effort job; none where it is empty."""
    job_scale: str = "quick"
    policy: str = sharing.PLAIN
    """Of the executor's, with its options."""
    executor: str = sharing.DEFAULT
    """Who makes them share."""
    load: float = 0.5
    """Requests that come, over those that could be served if nothing else ran."""
    arrivals: str = "poisson"
    """Ways of drawing arrivals, with options: ``gamma:variation=3``."""
    trace: str = ""
    """Days of function invocations instead, by file, with a ``:`` between two."""
    alone_s: float = 1.5
    """How long the best-effort job first runs alone in each trial: what it is a share of."""
    cores: int = 1
    """That both share."""
    service_ms: float = 0.0
    """How long a request takes alone; found out where it is 0."""

    kept: ClassVar[Path | None] = None
    """What was prepared for the workload."""

    def __post_init__(self) -> None:
        if not 0 < self.load < 1:
            raise BadValue(
                f"load={self.load:g}: at 1 the serving job alone would not keep up; "
                "choose a share between 0 and 1"
            )
        sharing.executor(self.executor).check(self.policy)
        parse_arrivals(self.arrivals)

    def beside(self) -> tuple[str, str] | None:
        return (self.job, self.job_scale) if self.job else None

    def preparation(self) -> str:
        if self.service_ms and not self.learns:
            return ""
        name = f"{self.executor}-{self.cores}-cores"
        return f"{name}-{self.job}-{self.policy}".replace("/", "-") if self.learns else name

    @property
    def learns(self) -> bool:
        """Whether the policy finds out things of the job that trains."""
        return bool(self.job) and sharing.executor(self.executor).must_learn(self.policy)

    def prepare(self, another: Another, kept: Path) -> None:
        session = another(0)
        try:
            sharing.executor(self.executor).keep(another, kept)
            with closing(self._stage(session, kept, kept)) as stage, pinned(stage.serving_cores):
                found = service_time.measured(stage.serve(session), SystemClock().wall_ns)
                if self.learns:
                    with closing(self._best_effort(session, kept, stage)) as job:
                        job.wait_ready()
        finally:
            session.close()
        service_time.store(found, kept)

    def prepared(self, kept: Path) -> System:
        ready = replace(self, service_ms=self.service_ms or service_time.load(kept).mean_ns / 1e6)
        object.__setattr__(ready, "kept", kept)  # no option, so no field
        return ready

    def drawn(self) -> Arrivals:
        """How requests come."""
        if self.trace:
            return busiest_function([Path(each) for each in self.trace.split(":")])
        return parse_arrivals(self.arrivals)

    def ride(self, session: Session, directory: Path) -> Ride:
        devices = sharing.executor(self.executor).devices
        if session.device.type not in devices:
            raise Unavailable(
                f"executor {self.executor} shares out {', '.join(devices)}, not "
                f"{session.device.type}; choose another executor or device"
            )
        directory = directory.resolve()  # a guardian of the other job runs elsewhere
        stage = self._stage(session, directory, self.kept)
        job = self._best_effort(session, directory, stage) if self.job else None
        per_second = self.load * 1e3 / self.service_ms if self.service_ms else 0.0
        return BesideRide(
            session,
            job,
            self.drawn(),
            per_second,
            alone_s=self.alone_s,
            stage=stage,
            shared_cores=self.cores,
        )

    def _stage(self, session: Session, directory: Path, kept: Path | None) -> Stage:
        return sharing.executor(self.executor).stage(
            Setting(
                policy=self.policy,
                device=session.device,
                cores=shared_cores(self.cores),
                folder=directory / "jobs",
                is_beside=bool(self.job),
                kept=kept,
            )
        )

    def _best_effort(self, session: Session, directory: Path, stage: Stage) -> BestEffortProcess:
        order = Order(
            workload=self.job,
            scale=self.job_scale,
            device=str(session.device),
            seed=1,
            threads=torch.get_num_threads(),
            cores=list(stage.training_cores),
            executor=self.executor,
            policy=self.policy,
            meeting=stage.meeting,
            progress=str(directory / "progress"),
        )
        return BestEffortProcess(order, stage.worked)
