"""Within-block log ratios, their mean as a ratio, its interval and its p-value."""

from __future__ import annotations

import numpy as np

from remora.core.errors import BadValue
from remora.lab.results import Interval
from remora.lab.statistics.arrays import FloatArray, Numbers, finite, positive
from remora.lab.statistics.pivot import one_sample, ratio, ratio_interval


def log_ratios(arm: Numbers, native: Numbers) -> FloatArray:
    """log(arm / native), block by block.

    Both hold one trial summary a block (the mean settled step, in any unit of time), in the same
    order of blocks; a block where either trial failed is left out of both.
    """
    above, below = positive(arm, "arm"), positive(native, "native")
    if above.size != below.size:
        raise BadValue(
            f"the arm has {above.size} blocks and native {below.size}; pair them by block"
        )
    return np.log(above / below)


def mean_ratio(log_ratios: Numbers) -> float | None:
    """The geometric mean of the ratios; None without any block."""
    values = finite(log_ratios, "log ratios")
    return ratio(float(values.mean())) if values.size else None


def mean_interval(log_ratios: Numbers, level: float = 0.95, seed: int = 0) -> Interval | None:
    """The interval of the geometric mean ratio, in ratio space; None below two blocks.

    Student's t on the log ratios below 20 blocks, the studentised bootstrap from there.
    """
    values = finite(log_ratios, "log ratios")
    return ratio_interval(one_sample(values, seed), level) if values.size >= 2 else None


def p_value(log_ratios: Numbers, seed: int = 0) -> float | None:
    """Two-sided p-value that the geometric mean ratio is 1; None below two blocks.

    It is read from the interval's own distribution: below 0.05 exactly when the 95 % interval
    leaves 1 out.
    """
    values = finite(log_ratios, "log ratios")
    return one_sample(values, seed).p_two_sided() if values.size >= 2 else None


def recovered(interval: Interval | None, injected: float) -> bool:
    """Whether the interval holds the overhead that was injected on purpose (0.05 is 5 %)."""
    return interval is not None and interval.low <= 1 + injected <= interval.high
