"""Poisson arrivals: many users, none of whom knows of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.share.arrivals.contract import Arrivals


@dataclass(frozen=True)
class Poisson(Arrivals):
    """Independent requests at a rate that does not change."""

    name = "poisson"

    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        return rng.uniform(0, duration_s, rng.poisson(per_second * duration_s))
