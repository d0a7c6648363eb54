"""Whether pieces glued together are the whole, bit for bit, and how far from it they are if not."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def difference(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """0.0 where all bits are the same; else the largest absolute difference, and at least the
    smallest number there is: zeros of either sign, and NaNs of other bits, differ.

    It is infinite where only one of two elements is finite.
    """
    if _same_bits(made, wanted):
        return 0.0
    gap = (made.double() - wanted.double()).abs()
    both_nan = made.isnan() & wanted.isnan()
    gap = torch.where(both_nan | (made == wanted), torch.zeros_like(gap), gap)
    largest = float(torch.where(gap.isnan(), torch.full_like(gap, math.inf), gap).max())
    return max(largest, math.ulp(0.0))


def largest_difference(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Of all pairs of what was made and what was wanted."""
    return max((difference(made, wanted) for made, wanted in pairs), default=0.0)


def _same_bits(made: torch.Tensor, wanted: torch.Tensor) -> bool:
    if made.dtype == torch.bool or made.dtype not in _FLOATS:
        return torch.equal(made, wanted)
    if torch.equal(made, wanted) and not bool((made == 0).any()):
        return True  # the usual case; only zeros can be equal and of other bits
    integers = _INTEGERS[made.element_size()]
    return torch.equal(made.view(integers), wanted.view(integers))


_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def spoil(tensor: torch.Tensor) -> None:
    """Fill with what no computation gives, so that an element nobody writes is seen."""
    if tensor.is_floating_point():
        tensor.fill_(math.nan)
    elif tensor.dtype != torch.bool:
        tensor.fill_(torch.iinfo(tensor.dtype).max)
