"""Which part of an axis to show, linear or logarithmic, and where its ticks stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

LOG_SPREAD = 3.0
"""Values that lie further apart than this factor are drawn on a logarithmic axis."""
NEAR = 1.5
"""How far, as a factor, the closer view of a logarithmic axis may reach."""


@dataclass(frozen=True)
class Scale:
    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def apply(self, axes: Any, write: Callable[[float], str]) -> None:
        """Set the horizontal axis of matplotlib ``axes``; ``write`` turns a tick into words."""
        axes.set_xscale("log" if self.log else "linear")
        axes.set_xlim(self.low, self.high)
        axes.set_xticks(self.ticks, [write(tick) for tick in self.ticks])
        axes.set_xticks([], minor=True)


def around(values: Iterable[float], ticks: int, zero: bool = False) -> Scale:
    """A scale that shows all of ``values`` with some air; about ``ticks`` ticks.

    With ``zero`` a linear scale begins at zero. Logarithmic when the values, all positive, lie
    more than ``LOG_SPREAD`` apart.
    """
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if low > 0 and high / low > LOG_SPREAD:
        return _logarithmic(low, high, ticks - 2)  # their ticks crowd at a decade's end
    return _linear(0.0 if zero and low >= 0 else low, high, ticks)


def closer(values: Iterable[float], around_value: float, ticks: int) -> Scale | None:
    """A linear scale for those of ``values`` within ``NEAR`` of ``around_value``; None for none."""
    kept = [value for value in values if is_near(value, around_value)]
    return around(kept, ticks) if kept else None


def is_near(value: float, around_value: float) -> bool:
    """Whether a closer view shows ``value``."""
    return around_value / NEAR <= value <= around_value * NEAR


def _linear(low: float, high: float, wanted: int) -> Scale:
    span = high - low or abs(high) or 1.0
    low, high = (low - 0.06 * span if low else 0.0), high + 0.06 * span
    step = _round_step((high - low) / wanted)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))
    return Scale(min((low, *ticks)), max((high, *ticks)), False, ticks)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))


def _logarithmic(low: float, high: float, wanted: int) -> Scale:
    air = (high / low) ** 0.06
    low, high = low / air, high * air
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) <= wanted:
            break
    every = max(1, math.ceil(len(ticks) / wanted))
    return Scale(low, high, True, tuple(ticks[::every]))
