"""Serving beside training: requests come as they come, and another job wants the same device."""

from __future__ import annotations

import time
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
from remora.systems.beside.cores import pinned as pinned_to
from remora.systems.beside.cores import shared_cores
from remora.systems.beside.job import BestEffort, BestEffortProcess
from remora.systems.beside.ride import BesideRide
from remora.systems.beside.worker import Order
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
        return "" if self.service_ms else f"service-{self.cores}-cores"

    def prepare(self, another: Another, kept: Path) -> None:
        with pinned_to(self.cores):
            session = another(0)
            try:
                found = service_time.measured(session, SystemClock().wall_ns)
            finally:
                session.close()
        service_time.store(found, kept)

    def prepared(self, kept: Path) -> System:
        return replace(self, service_ms=service_time.load(kept).mean_ns / 1e6)

    def drawn(self) -> Arrivals:
        """How requests come."""
        if self.trace:
            return busiest_function([Path(each) for each in self.trace.split(":")])
        return parse_arrivals(self.arrivals)

    def ride(self, session: Session, directory: Path) -> Ride:
        executor = sharing.executor(self.executor)
        if session.device.type not in executor.devices:
            raise Unavailable(
                f"executor {self.executor} shares out {', '.join(executor.devices)}, not "
                f"{session.device.type}; choose another executor or device"
            )
        cores = shared_cores(self.cores)
        directory = directory.resolve()  # a guardian of the other job runs elsewhere
        leave = executor.serve(self.policy, directory / "jobs") if self.job else None
        job = self._best_effort(session, directory, cores) if self.job else None
        per_second = self.load * 1e3 / self.service_ms if self.service_ms else 0.0
        return BesideRide(
            session, job, self.drawn(), per_second, alone_s=self.alone_s, cores=cores, leave=leave
        )

    def _best_effort(self, session: Session, directory: Path, cores: list[int]) -> BestEffort:
        return BestEffortProcess(
            Order(
                workload=self.job,
                scale=self.job_scale,
                device=str(session.device),
                seed=1,
                threads=torch.get_num_threads(),
                cores=cores,
                executor=self.executor,
                policy=self.policy,
                folder=str(directory / "jobs"),
                progress=str(directory / "progress"),
            ),
            time.sleep,
        )
