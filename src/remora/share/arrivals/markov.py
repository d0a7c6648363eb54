"""Markov-modulated Poisson arrivals: quiet times and bursts take turns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue
from remora.share.arrivals.contract import Arrivals


@dataclass(frozen=True)
class MarkovModulated(Arrivals):
    """Poisson arrivals whose rate jumps between two, after exponential times.

    Fischer and Meier-Hellstern (1993), "The Markov-modulated Poisson process (MMPP) cookbook",
    Performance Evaluation 18.
    """

    name = "bursts"
    ratio: float = 5.0
    """The rate in a burst over that in a quiet time. With a tenth of the time in bursts a mean load
    of half a device is 1.8 of it in a burst: queues build, and empty again."""
    time: float = 0.1
    """The share of the time that is in bursts."""
    burst_ns: int = 1_000_000_000
    """How long a burst is, on average: many requests."""

    def __post_init__(self) -> None:
        if not 1 <= self.ratio < math.inf:
            raise BadValue(f"ratio={self.ratio!r}: choose 1 (no bursts) or more")
        if not 0 < self.time < 1:
            raise BadValue(f"time={self.time!r}: choose a share of the time between 0 and 1")
        if self.burst_ns <= 0:
            raise BadValue(f"burst={self.burst_ns} ns is no time; choose a positive one such as 1s")

    def rates(self, per_second: float) -> tuple[float, float]:
        """Requests a second in quiet times and in bursts, for a mean of ``per_second``."""
        quiet = per_second / (1 - self.time + self.time * self.ratio)
        return quiet, quiet * self.ratio

    def mean_quiet_s(self) -> float:
        return self.burst_ns / 1e9 * (1 - self.time) / self.time

    def dispersion(self, per_second: float) -> float:
        """The variance of counts over their mean, over long times."""
        quiet, burst = self.rates(per_second)
        turning = 1e9 / self.burst_ns + 1 / self.mean_quiet_s()
        spread = self.time * (1 - self.time) * (burst - quiet) ** 2
        return 1 + 2 * spread / (turning * per_second)

    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        lengths, in_burst = self._times(duration_s, rng)
        begins = np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
        counts = rng.poisson(np.where(in_burst, *reversed(self.rates(per_second))) * lengths)
        within = rng.uniform(size=int(counts.sum()))
        return np.repeat(begins, counts) + np.repeat(lengths, counts) * within

    def _times(
        self, duration_s: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How long each time is, and which are bursts; together they cover the duration."""
        means = (self.mean_quiet_s(), self.burst_ns / 1e9)
        is_burst = bool(rng.uniform() < self.time)
        lengths, bursts, total = list[float](), list[bool](), 0.0
        while total < duration_s:
            lengths.append(rng.exponential(means[is_burst]))
            bursts.append(is_burst)
            total += lengths[-1]
            is_burst = not is_burst
        return np.array(lengths), np.array(bursts)
