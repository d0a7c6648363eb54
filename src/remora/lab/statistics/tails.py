"""Percentiles of step times, with bounds that know that steps of one process resemble each other.

The bounds are order statistics (David and Nagaraja, *Order Statistics*, 2003, section 7.1), taken
at ranks for the *effective* number of steps: how many independent steps would say as much about
the share of steps beyond the percentile. It comes from the intraclass correlation of being beyond
(Kish 1965; Woodruff 1952, "Confidence intervals for medians and other position measures", JASA 47)
and is reduced for the few trials behind that estimate (Korn and Graubard 1998, "Confidence
intervals for proportions with small expected number of positive counts", Survey Methodology 24).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from remora.lab.results import Tail
from remora.lab.statistics.arrays import FloatArray, Numbers, finite, share


def tail(steps_by_trial: Sequence[Numbers], quantile: float, level: float = 0.95) -> Tail:
    """The ``quantile`` of step times over all trials, with bounds at ``level``.

    ``steps_by_trial`` holds the settled steps of each trial, in any unit; the tail has that unit.
    Where the steps cannot bound the percentile from both sides it is invalid, says why, and
    carries no number: the greatest of too few steps would flatter.
    """
    share(quantile, "quantile")
    trials = [finite(steps, "steps") for steps in steps_by_trial if len(steps)]
    name = f"p{100 * quantile:g}"
    if len(trials) < 2:
        there = "there is 1" if trials else "there are 0"
        return _invalid(quantile, f"{name} needs at least 2 trials; {there}")
    pooled = np.sort(np.concatenate(trials))
    value = float(np.quantile(pooled, quantile, method="inverted_cdf"))
    effective = effective_steps([steps > value for steps in trials], level)
    ranks = order_ranks(int(effective), quantile, level)
    if ranks is None:
        needed = fewest_steps(quantile, level)
        return _invalid(
            quantile,
            f"{name} needs at least {needed:,} independent steps; there are {int(effective):,} "
            f"(from {pooled.size:,} steps of {len(trials)} trials)",
        )
    low, high = _rescaled(ranks, int(effective), pooled)
    return Tail(quantile=quantile, value=value, low=low, high=high, valid=True, reason="")


def order_ranks(count: int, quantile: float, level: float = 0.95) -> tuple[int, int] | None:
    """Ranks (1 is the least) of the order statistics of ``count`` independent values that bound
    the quantile at ``level``; None where the count is too small for one of them to exist."""
    alpha = 1 - share(level, "level")
    below = stats.binom(count, quantile)
    # The bound at rank r is too high when fewer than r values lie below the quantile, and too low
    # when at least r do: each at most α/2.
    low, high = int(below.ppf(alpha / 2)), int(below.ppf(1 - alpha / 2)) + 1
    return (low, high) if low >= 1 and high <= count else None


def fewest_steps(quantile: float, level: float = 0.95) -> int:
    """The least number of independent steps for which both bounds of the quantile exist."""
    extreme = max(quantile, 1 - quantile)
    return math.ceil(math.log((1 - level) / 2) / math.log(extreme))


def effective_steps(beyond: Sequence[NDArray[np.bool_]], level: float = 0.95) -> float:
    """How many independent steps the nested ones are worth, given which are beyond the percentile.

    ``beyond`` has one array a trial, at least two trials.
    """
    sizes = np.array([flags.size for flags in beyond], dtype=np.float64)
    total = float(sizes.sum())
    correlation = intraclass_correlation([flags.astype(np.float64) for flags in beyond])
    design = 1 + (float((sizes**2).sum()) / total - 1) * correlation
    upper = (1 + level) / 2
    few = special.stdtrit(max(total - 1, 1), upper) / special.stdtrit(sizes.size - 1, upper)
    return max(1.0, total / design * float(few) ** 2)


def intraclass_correlation(groups: Sequence[FloatArray]) -> float:
    """The share of variance that lies between groups, from one-way analysis of variance; 0 to 1.

    Donner (1986), "A review of inference procedures for the intraclass correlation coefficient in
    the one-way random effects model", Int. Stat. Rev. 54.
    """
    sizes = np.array([group.size for group in groups], dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    total, count = float(sizes.sum()), sizes.size
    if total <= count:
        return 0.0
    grand = float(sizes @ means) / total
    between = float(sizes @ (means - grand) ** 2) / (count - 1)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (total - count)
    usual = (total - float((sizes**2).sum()) / total) / (count - 1)
    denominator = between + (usual - 1) * within
    return min(1.0, max(0.0, (between - within) / denominator)) if denominator > 0 else 0.0


def _rescaled(ranks: tuple[int, int], effective: int, pooled: FloatArray) -> tuple[float, float]:
    """The order statistics of all steps at the same shares, rounded outward."""
    low = max(1, math.floor(ranks[0] * pooled.size / effective))
    high = min(pooled.size, math.ceil(ranks[1] * pooled.size / effective))
    return float(pooled[low - 1]), float(pooled[high - 1])


def _invalid(quantile: float, reason: str) -> Tail:
    return Tail(quantile=quantile, value=None, low=None, high=None, valid=False, reason=reason)
