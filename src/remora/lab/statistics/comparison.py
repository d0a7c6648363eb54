"""Two independent sets of results: is B as fast as A, better or worse?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from remora.lab.results import Interval
from remora.lab.statistics.arrays import Numbers, finite, log_margin, share
from remora.lab.statistics.equivalence import equivalence_p
from remora.lab.statistics.multiple import holm
from remora.lab.statistics.pivot import Pivot, ratio, ratio_interval, welch

Change = Literal["same", "better", "worse", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """B against A. ``ratio`` is B's ratio to native over A's: above 1 is slower, worse."""

    ratio: float | None
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    p_outside: float | None
    """That the ratio lies outside the margin, Holm-adjusted."""
    verdict: Change


def compare(
    log_ratios_a: Numbers,
    log_ratios_b: Numbers,
    margin: float,
    level: float = 0.95,
    floor: float = 0.0,
) -> Difference:
    """Compare one arm in two sets of results, each against its own native.

    Welch's test on the log ratios for the difference, two one-sided tests for sameness within the
    margin, with the precedence of :func:`remora.lab.statistics.verdict.decide`. ``floor`` is the
    larger of the two sets' noise floors. With fewer than two blocks on a side it is undecided.
    """
    return compare_table({"arm": (log_ratios_a, log_ratios_b)}, margin, level, floor)["arm"]


def compare_table(
    pairs: Mapping[str, tuple[Numbers, Numbers]],
    margin: float,
    level: float = 0.95,
    floor: float = 0.0,
) -> dict[str, Difference]:
    """Compare every arm of two sets of results; Holm over the arms for either question."""
    log_margin(margin), share(level, "level")
    pivots = [_pivot(name, *pair) for name, pair in pairs.items()]
    p_values = [pivot.p_two_sided() if pivot else None for pivot in pivots]
    p_outside = holm([equivalence_p(pivot, margin) if pivot else None for pivot in pivots])
    rows = zip(pairs, pivots, p_values, holm(p_values), p_outside, strict=True)
    return {
        name: Difference(
            ratio=ratio(pivot.mean) if pivot else None,
            interval=ratio_interval(pivot, level) if pivot else None,
            p_value=p_value,
            p_holm=p_holm,
            p_outside=outside,
            verdict=_decide(ratio(pivot.mean) if pivot else None, p_holm, outside, floor, level),
        )
        for name, pivot, p_value, p_holm, outside in rows
    }


def _pivot(name: str, log_ratios_a: Numbers, log_ratios_b: Numbers) -> Pivot | None:
    before, after = finite(log_ratios_a, f"{name} in A"), finite(log_ratios_b, f"{name} in B")
    return welch(before, after) if min(before.size, after.size) >= 2 else None


def _decide(
    ratio: float | None, p_holm: float | None, outside: float | None, floor: float, level: float
) -> Change:
    if ratio is None or p_holm is None or outside is None:
        return "undecided"
    if outside < 1 - level:
        return "same"
    if p_holm < 1 - level and abs(ratio - 1) > floor:
        return "worse" if ratio > 1 else "better"
    return "undecided"
