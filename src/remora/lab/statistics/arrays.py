"""What may enter: finite numbers in one dimension, shares between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue

FloatArray = NDArray[np.float64]
Numbers = NDArray[np.floating] | NDArray[np.integer] | Sequence[float]


def finite(values: Numbers, what: str) -> FloatArray:
    """``values`` as a float vector; :class:`BadValue` if any is not a finite number."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise BadValue(f"{what}: one dimension is wanted, there are {vector.ndim}")
    if not np.isfinite(vector).all():
        raise BadValue(f"{what}: every value must be finite; leave out trials that failed")
    return vector


def positive(values: Numbers, what: str) -> FloatArray:
    """``values`` as a float vector; :class:`BadValue` if any is not above zero."""
    vector = finite(values, what)
    if (vector <= 0).any():
        raise BadValue(f"{what}: every value must be above zero to have a logarithm")
    return vector


def share(value: float, what: str) -> float:
    """``value`` if strictly between 0 and 1, else :class:`BadValue`."""
    if not 0 < value < 1:
        raise BadValue(f"{what} must lie between 0 and 1, not {value!r}; write 95 % as 0.95")
    return value


def log_margin(margin: float) -> float:
    """The margin on the log scale: ratios from 1/(1 + margin) to 1 + margin are within it.

    Symmetric there, so that exchanging the arms exchanges the verdict; a hair stricter than
    ±margin on the side of gains.
    """
    if not 0 < margin < math.inf:
        raise BadValue(f"the margin must be a positive share, not {margin!r}; write 2 % as 0.02")
    return math.log1p(margin)
