"""Quantities described as they are: nothing is trimmed."""

from __future__ import annotations

import numpy as np

from remora.core.errors import BadValue
from remora.lab.results import Spread
from remora.lab.statistics.arrays import Numbers, finite

OUTLIER_MADS = 3.0
MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""


def spread(values: Numbers) -> Spread:
    """Count, mean, median, sample standard deviation (None for one value), least and greatest."""
    vector = finite(values, "values")
    if not vector.size:
        raise BadValue("there is nothing to describe; at least one value is needed")
    return Spread(
        count=vector.size,
        mean=float(vector.mean()),
        median=float(np.median(vector)),
        std=float(vector.std(ddof=1)) if vector.size > 1 else None,
        min=float(vector.min()),
        max=float(vector.max()),
    )


def outliers(steps: Numbers) -> int:
    """Steps of one trial beyond 3 scaled MADs of its median: counted, never removed."""
    vector = finite(steps, "steps")
    if not vector.size:
        return 0
    distance = np.abs(vector - np.median(vector))
    limit = OUTLIER_MADS * MAD_TO_SIGMA * float(np.median(distance))
    return int((distance > limit).sum())
