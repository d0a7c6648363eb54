"""The contract of arrivals: moments at which requests come, whatever becomes of those before.

That is an open loop. A closed one, which asks again once it was answered, slows down with the
system it measures and so hides how slow it is (Schroeder, Wierman and Harchol-Balter, NSDI'06).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue

Moments: TypeAlias = NDArray[np.int64]
"""Nanoseconds since the beginning, in order, shape (requests,)."""
MOST_REQUESTS = 50_000_000
"""More are refused before anything is drawn: each takes 8 bytes."""


@dataclass(frozen=True)
class Arrivals(ABC):
    """One way in which requests come. Subclasses are frozen dataclasses: fields are options."""

    name: ClassVar[str]

    def draw(self, per_second: float, duration_ns: int, seed: int) -> Moments:
        """About ``per_second`` requests within ``duration_ns``; the same seed draws the same.

        Raises:
            BadValue: a rate or a duration that is not positive, or more requests than can be held.
        """
        if not 0 < per_second < math.inf or duration_ns <= 0:
            raise BadValue(
                f"{per_second:g} requests a second for {duration_ns} ns; choose positive numbers"
            )
        if per_second * duration_ns / 1e9 > MOST_REQUESTS:
            raise BadValue(
                f"{per_second:g} requests a second for {duration_ns / 1e9:g} s are more than "
                f"{MOST_REQUESTS:,}; choose a shorter time"
            )
        seconds = self._draw(per_second, duration_ns / 1e9, np.random.default_rng(seed))
        moments = np.sort(np.rint(seconds * 1e9).astype(np.int64))
        return moments[moments < duration_ns]

    @abstractmethod
    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Moments in seconds, from 0 to ``duration_s``, in any order."""
