"""Gamma renewals: gaps between requests that vary more than those of Poisson arrivals, or less."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue
from remora.share.arrivals.contract import Arrivals


@dataclass(frozen=True)
class Gamma(Arrivals):
    """Independent gaps, each of a gamma distribution.

    Over long times the variance of counts is their mean times the square of ``variation`` (Cox,
    *Renewal Theory*, 1962, section 4.2).
    """

    name = "gamma"
    variation: float = 2.0
    """Of a gap: its standard deviation over its mean. 1 is Poisson; at 2 counts vary four times as
    much, so that bursts show at every load."""

    def __post_init__(self) -> None:
        if not 0 < self.variation < math.inf:
            raise BadValue(f"variation={self.variation!r}: choose a positive number; 1 is Poisson")

    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        shape = self.variation**-2
        mean_s = 1 / per_second
        # The beginning falls into a gap, and into a long one more likely than into a short one.
        first = rng.uniform() * rng.gamma(shape + 1, mean_s / shape)
        moments, last = [np.array([first])], first
        while last < duration_s:
            count = math.ceil(1.1 * (duration_s - last) * per_second) + 16
            moments.append(last + np.cumsum(rng.gamma(shape, mean_s / shape, count)))
            last = float(moments[-1][-1])
        return np.concatenate(moments)
