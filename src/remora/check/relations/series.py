"""A series of numbers of one run, known by its extremes: enough to hold its halves apart.

The extremes of the values 2ⁿ to 2ⁿ⁺¹ - 1 are kept for each n, so memory grows with the logarithm
of the run's length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Extremes(NamedTuple):
    low: float = math.inf
    high: float = -math.inf


class Series:
    def __init__(self) -> None:
        self.count = 0
        self.finite = True
        """Whether every value is."""
        self._pieces: list[Extremes] = []

    def add(self, value: float) -> None:
        self.count += 1
        self.finite = self.finite and math.isfinite(value)
        if self.count.bit_length() > len(self._pieces):
            self._pieces.append(Extremes(value, value))
        else:
            last = self._pieces[-1]
            self._pieces[-1] = Extremes(min(last.low, value), max(last.high, value))

    @property
    def low(self) -> float:
        return _joined(self._pieces).low

    @property
    def high(self) -> float:
        return _joined(self._pieces).high

    def halves(self) -> tuple[Extremes, Extremes]:
        """Of the first half of the values and of the rest: cut between the third and two thirds."""
        first = (1 << (len(self._pieces) - 1)) - 1
        last = 1 if 3 * first <= 2 * self.count else 2
        return _joined(self._pieces[:-last]), _joined(self._pieces[-last:])


def _joined(pieces: Iterable[Extremes]) -> Extremes:
    found = Extremes()
    for one in pieces:
        found = Extremes(min(found.low, one.low), max(found.high, one.high))
    return found
