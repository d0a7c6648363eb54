"""What a script reads out of tensors as Python values: the calls, and how each answer is kept.

Of nested calls only the outermost is the script's: ``print(loss)`` asks ``__repr__``, which asks
``item``. What the rest of Python asks goes through these as well: ``f"{loss:.3f}"`` and
``x in tensor`` through ``item``, ``numpy.asarray(tensor)`` through ``numpy``, ``math.sqrt(tensor)``
through ``__float__``, ``str(tensor)`` through ``__repr__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash

from remora.checkpoint.ride.patches import Patches
from remora.checkpoint.ride.where import stands_within

METHODS = (
    "item", "__float__", "__int__", "__bool__", "__index__", "__complex__", "__repr__",
    "tolist", "numpy", "equal", "allclose", "is_nonzero",
)  # fmt: skip
FUNCTIONS = ("equal", "allclose", "is_nonzero")
MAX_BYTES = 2**20
"""Of a larger array the journal keeps a fingerprint only: replay must then arrive at it itself."""

Make = Callable[[str, Any], Any]


def patch(patches: Patches, make: Make) -> None:
    """Put ``make(kind, original)`` in the place of each call that reads a tensor."""
    import torch

    def replaced(kind: str) -> Callable[[Any], Any]:
        def put(original: Any) -> Any:
            ours = make(kind, original)
            stands_within(ours.__code__)
            ours.__name__, ours.__doc__ = original.__name__, original.__doc__
            return ours

        return put

    for name in METHODS:
        patches.attribute(torch.Tensor, name, replaced(name))
    for name in FUNCTIONS:
        patches.attribute(torch, name, replaced(f"torch.{name}"))


def kept(kind: str, value: Any) -> tuple[Any, int]:
    """``value`` as the journal keeps it, and about how many bytes that takes."""
    if kind == "numpy":
        return _kept_array(value)
    if isinstance(value, complex):
        return [value.real, value.imag], 24
    if kind == "tolist" and isinstance(value, list):
        array = np.asarray(value)
        if array.dtype == object or array.nbytes > MAX_BYTES or array.dtype.kind == "c":
            return _fingerprint(array), 16
        return value, array.nbytes
    return value, len(value) if isinstance(value, str) else 16


def _kept_array(array: Any) -> tuple[Any, int]:
    if array.nbytes > MAX_BYTES:
        return _fingerprint(array), 16
    return [array.dtype.str, list(array.shape), array.tobytes()], array.nbytes + 32


def _fingerprint(array: Any) -> dict[str, int]:
    return {"xxh3": xxhash.xxh3_64_intdigest(array.tobytes())}


def given(kind: str, value: Any) -> Any:
    """What the script gets for ``value``, as it was kept."""
    if kind == "numpy":
        dtype, shape, data = value
        return np.frombuffer(data, dtype=dtype).reshape(shape).copy()
    if isinstance(value, list) and kind in ("item", "__complex__"):
        return complex(*value)
    return value


def only_fingerprint(value: Any) -> bool:
    """Whether no more than a fingerprint was kept."""
    return isinstance(value, dict)
