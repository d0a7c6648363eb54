"""What a simulation yields: moments and sums. What they mean is for statistics to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.share.arrivals.contract import Moments
from remora.share.policies.contract import Priority
from remora.share.simulator import EXECUTOR

_WINDOWS = 20
"""Of the time, to see how much arrivals scatter."""


@dataclass(frozen=True, eq=False)
class JobResult:
    """One job on one device. Arrays have one entry for each request that came, in that order."""

    name: str
    priority: Priority
    duration_ns: int
    arrivals_ns: Moments
    """Of a job that trains: when each step began."""
    began_ns: Moments
    """When the program turned to the request; -1 where it never did."""
    finished_ns: Moments
    """-1 where it was not done when the time was over."""
    is_open_loop: bool
    units_done: int
    useful_ns: int
    """Device time of the units done, had each run alone and whole."""
    device_ns: int
    """Device time used: more than useful where slices or neighbours cost some."""

    @property
    def unfinished(self) -> int:
        return int(np.count_nonzero(self.finished_ns < 0))

    def response_ns(self) -> NDArray[np.int64]:
        """From arrival to end. Of what was not done, the time until then: it is at least that."""
        ends = np.where(self.finished_ns < 0, self.duration_ns, self.finished_ns)
        return ends - self.arrivals_ns

    def service_ns(self) -> NDArray[np.int64]:
        """From when the program turned to a request to its end, of those done.

        This leaves out how long requests waited for each other, and so looks well on an overloaded
        device. It is there because others report it.
        """
        done = self.finished_ns >= 0
        return self.finished_ns[done] - self.began_ns[done]

    def backlog(self, moments_ns: Moments) -> NDArray[np.int64]:
        """How many requests had come and were not done, at each of the moments."""
        finished = np.sort(self.finished_ns[self.finished_ns >= 0])
        came = np.searchsorted(self.arrivals_ns, moments_ns, side="right")
        return (came - np.searchsorted(finished, moments_ns, side="right")).astype(np.int64)

    def is_unstable(self) -> bool:
        """Whether the queue grows: in the second half more came than were done, by more than three
        standard deviations of how many came. Then percentiles say only how long was simulated."""
        if not self.is_open_loop:
            return False
        halves = np.array([self.duration_ns // 2, self.duration_ns], dtype=np.int64)
        before, after = self.backlog(halves)
        came = np.count_nonzero(self.arrivals_ns >= halves[0])
        return bool(after - before > 3 * math.sqrt(came * self._dispersion()) + 1)

    def _dispersion(self) -> float:
        """The variance of counts over their mean, at least that of Poisson arrivals."""
        counts, _ = np.histogram(self.arrivals_ns, _WINDOWS, (0, self.duration_ns))
        return max(1.0, float(counts.var(ddof=1) / max(counts.mean(), 1e-9)))


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """One device, and the jobs on it by name."""

    jobs: Mapping[str, JobResult]
    duration_ns: int
    busy_ns: int
    """How long it had anything at all."""
    runs: int
    """How many units and slices were started."""
    beyond_bound: int
    """Of them, those that no slicing made as short as the policy's bound."""
    executor: str = EXECUTOR

    @property
    def utilisation(self) -> float:
        return self.busy_ns / self.duration_ns
