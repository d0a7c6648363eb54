"""What native against native shows: the overhead that noise alone could still be."""

from __future__ import annotations

from dataclasses import dataclass

from remora.lab.results import Interval
from remora.lab.statistics.arrays import Numbers
from remora.lab.statistics.ratios import mean_interval, mean_ratio


@dataclass(frozen=True, slots=True)
class Floor:
    """The A/A ratio, its interval, and the largest overhead (a share) the interval allows."""

    ratio: float
    interval: Interval
    floor: float


def noise_floor(again: Numbers, level: float = 0.95, seed: int = 0) -> Floor | None:
    """The noise floor from the A/A arm's log ratios, one a block; None below two blocks.

    Neither a cost nor a gain is claimed for an estimate that does not rise above ``floor``.
    """
    ratio, interval = mean_ratio(again), mean_interval(again, level, seed)
    if ratio is None or interval is None:
        return None
    return Floor(ratio, interval, max(abs(interval.low - 1), abs(interval.high - 1)))
