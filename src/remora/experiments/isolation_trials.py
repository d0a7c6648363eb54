"""One trial of the isolation experiment as numbers: latencies, throughputs, whether its queue grew.

What a queue is, and when it grows, is said once, by the simulator's results: the same words hold
for what was measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from remora.experiments.isolation_rows import SYSTEM
from remora.lab.results import Requests, Samples, Trial
from remora.lab.statistics.arrays import FloatArray
from remora.share.policies.contract import Priority
from remora.share.simulator.results import JobResult

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Served:
    """The requests of one trial."""

    trial: Trial
    samples: Samples
    requests: Requests

    @classmethod
    def of(cls, trial: Trial) -> Served | None:
        """None where it failed, or its steps are no requests."""
        samples = trial.samples
        if samples is None or samples.requests is None:
            return None
        return cls(trial, samples, samples.requests)

    @cached_property
    def _job(self) -> JobResult:
        came = np.array(self.requests.came_ns, dtype=np.int64)
        began, finished = np.full((2, came.size), -1, dtype=np.int64)
        late = np.array(self.requests.late_ns, dtype=np.int64)
        began[: late.size] = came[: late.size] + late
        steps = np.array(self.samples.step_ns, dtype=np.int64)
        finished[: steps.size] = began[: steps.size] + steps
        return JobResult(
            name=self.trial.spec.arm.workload,
            priority=Priority.HIGH,
            duration_ns=self.requests.ended_ns,
            arrivals_ns=came,
            began_ns=began,
            finished_ns=finished,
            is_open_loop=True,
            units_done=steps.size,
            useful_ns=int(steps.sum()),
            device_ns=int(steps.sum()),
        )

    @property
    def block(self) -> int:
        return self.trial.spec.block

    @cached_property
    def response_ms(self) -> FloatArray:
        """From arrival; of a request that was never turned to, its wait until the end."""
        return self._job.response_ns() / 1e6

    @cached_property
    def service_ms(self) -> FloatArray:
        return self._job.service_ns() / 1e6

    @property
    def duration_s(self) -> float:
        return self.requests.ended_ns / 1e9

    @property
    def served_per_s(self) -> float:
        return len(self.samples.step_ns) / self.duration_s

    @property
    def busy(self) -> float:
        """The share of the time in which a request was served."""
        return sum(self.samples.step_ns) / self.requests.ended_ns

    @property
    def left(self) -> float:
        """The share of the time in which the shared cores did nothing for either job: all that the
        process that serves does is its own, between its requests as well.
        """
        return 1 - self.trial.counts.get("cores_busy", self.busy)

    @property
    def occupancy(self) -> float:
        """Requests that came a second times how long one was served: below 1 in a stable queue."""
        return len(self.requests.came_ns) / self.duration_s * float(self.service_ms.mean()) / 1e3

    @property
    def is_unstable(self) -> bool:
        """Whether the queue grew, or would have in a longer trial: requests come faster than they
        are served. A short queue and a short trial do not show that by themselves.
        """
        return self.occupancy >= 1 or self._job.is_unstable()

    @property
    def most_backlog(self) -> int:
        return int(self._job.backlog(self._job.arrivals_ns).max(initial=0))

    def in_time_per_s(self, bound_ms: float) -> float:
        """Requests done within ``bound_ms`` of their arrival, a second: goodput."""
        done = self._job.finished_ns >= 0
        return float(np.count_nonzero(self.response_ms[done] <= bound_ms)) / self.duration_s

    def count(self, name: str) -> float | None:
        """What the system counted by that name."""
        return self.trial.counts.get(name)


ByBlock = Mapping[int, Served]


def served_by_arm(trials: Sequence[Trial]) -> dict[str, ByBlock]:
    """The trials that served requests, by arm and block."""
    found: dict[str, dict[int, Served]] = defaultdict(dict)
    for trial in trials:
        one = Served.of(trial) if trial.spec.arm.system == SYSTEM else None
        if one is not None:
            found[trial.spec.arm.name][one.block] = one
    return dict(found)


def percentile(values: FloatArray, quantile: float) -> float:
    """The least value with at least that share at or below it."""
    return float(np.quantile(values, quantile, method="inverted_cdf"))
