"""A mean with its standard error, and how far from the truth it may be.

The interval, the p-value and the equivalence test all read the same pivot, so they cannot
contradict each other: a p-value is below 1 − level exactly when the interval leaves the null out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from remora.core.errors import BadValue
from remora.lab.results import Interval
from remora.lab.statistics.arrays import FloatArray, share

BOOTSTRAP_FROM = 20
"""From this many blocks the pivot's distribution is resampled; below, Student's t. Under 20 values
a bootstrap has too little to draw from (BCa covers 83–91 % there)."""

RESAMPLES = 9_999
"""One short of a round number, so that the p-value's steps fall on round shares; the least
p-value is 0.0002, which survives Holm's correction over 200 arms."""

_LARGEST_LOG = 700.0
_ROUNDING = 1e-12
"""Standard errors below this share are rounding of the logarithm, not variance."""


@dataclass(frozen=True, slots=True)
class Pivot:
    """(mean − truth) / standard_error, with its distribution.

    ``resampled`` holds sorted bootstrap draws of the pivot; where it is None the distribution is
    Student's t with ``freedom`` degrees of freedom.
    """

    mean: float
    standard_error: float
    freedom: float
    method: str
    resampled: FloatArray | None = None

    def interval(self, level: float) -> tuple[float, float]:
        """Equal-tailed bounds of the mean, in its own unit."""
        below, above = self._quantiles(1 - share(level, "level"))
        return self.mean - above * self.standard_error, self.mean - below * self.standard_error

    def p_above(self, null: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at most ``null``."""
        return self._upper_tail(self._statistic(null))

    def p_below(self, null: float) -> float:
        """One-sided p-value of the hypothesis that the truth is at least ``null``."""
        return self._lower_tail(self._statistic(null))

    def p_two_sided(self, null: float = 0.0) -> float:
        """p-value of the hypothesis that the truth is ``null``."""
        return min(1.0, 2 * min(self.p_above(null), self.p_below(null)))

    def _statistic(self, null: float) -> float:
        difference = self.mean - null
        if self.standard_error > 0:
            return difference / self.standard_error
        return 0.0 if abs(difference) <= _ROUNDING else math.copysign(math.inf, difference)

    def _quantiles(self, alpha: float) -> tuple[float, float]:
        if self.resampled is None:
            above = float(special.stdtrit(self.freedom, 1 - alpha / 2))
            return -above, above
        # Chosen so that p_two_sided < alpha exactly where the interval excludes the null.
        count = self.resampled.size
        tail = max(2, round(alpha / 2 * (count + 1)))
        return float(self.resampled[tail - 2]), float(self.resampled[count - tail + 1])

    def _upper_tail(self, statistic: float) -> float:
        if self.resampled is None:
            return float(special.stdtr(self.freedom, -statistic))
        as_large = self.resampled.size - np.searchsorted(self.resampled, statistic, side="left")
        return float(as_large + 1) / (self.resampled.size + 1)

    def _lower_tail(self, statistic: float) -> float:
        if self.resampled is None:
            return float(special.stdtr(self.freedom, statistic))
        as_small = np.searchsorted(self.resampled, statistic, side="right")
        return float(as_small + 1) / (self.resampled.size + 1)


def one_sample(values: FloatArray, seed: int) -> Pivot:
    """The pivot of a mean of at least two values: t below 20 values, bootstrap-t from there.

    The studentised bootstrap is Efron and Tibshirani, *An Introduction to the Bootstrap* (1993),
    section 12.5. Where resamples without variance reach into its tails (nearly all values equal)
    it has no quantiles, and t stands in.
    """
    count = values.size
    if count < 2:
        raise BadValue(f"a mean has an interval from two values on; there are {count}")
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count)
    if error <= _ROUNDING * (1 + abs(mean)):
        return Pivot(mean, 0.0, count - 1, "no variance")
    if count >= BOOTSTRAP_FROM:
        draws = _resampled_pivots(values, mean, seed)
        if np.isfinite(draws[[0, -1]]).all():
            return Pivot(mean, error, count - 1, "bootstrap-t", draws)
    return Pivot(mean, error, count - 1, "t")


def welch(first: FloatArray, second: FloatArray) -> Pivot:
    """The pivot of mean(second) − mean(first), independent samples of at least two values each.

    Welch (1947), "The generalization of Student's problem when several different population
    variances are involved", Biometrika 34.
    """
    if min(first.size, second.size) < 2:
        raise BadValue("a difference of means has an interval from two values a side on")
    mean = float(second.mean() - first.mean())
    parts = np.array([first.var(ddof=1) / first.size, second.var(ddof=1) / second.size])
    total = float(parts.sum())
    if math.sqrt(total) <= _ROUNDING * (1 + abs(mean)):
        return Pivot(mean, 0.0, first.size + second.size - 2, "no variance")
    freedom = total**2 / float((parts**2 / [first.size - 1, second.size - 1]).sum())
    return Pivot(mean, math.sqrt(total), freedom, "Welch")


def ratio(log_value: float) -> float:
    """exp, kept finite so that it can be stored."""
    return math.exp(max(-_LARGEST_LOG, min(_LARGEST_LOG, log_value)))


def ratio_interval(pivot: Pivot, level: float) -> Interval:
    """The pivot's bounds as ratios."""
    low, high = pivot.interval(level)
    method = f"{pivot.method} on log ratios"
    return Interval(low=ratio(low), high=ratio(high), level=level, method=method)


def _resampled_pivots(values: FloatArray, mean: float, seed: int) -> FloatArray:
    """Sorted (mean* − mean) / standard error*, of values drawn with replacement."""
    count = values.size
    # One seed gives one set of draws, so the arms of a table are resampled by the same blocks.
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count), dtype=np.int32)
    centred = values - mean
    samples = centred[drawn]
    means = samples.mean(axis=1)
    squares = np.einsum("ij,ij->i", samples, samples) / count - means**2
    errors = np.sqrt(np.maximum(squares, 0.0) / (count - 1))
    degenerate = errors <= _ROUNDING * math.sqrt(float(centred @ centred))
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.where(degenerate, np.copysign(np.inf, means), means / errors)
    return np.sort(pivots)
