"""Operators that cut a tensor into pieces: into as many as the graph has slots for, and no more.

A tensor that takes no memory, one number expanded, can be cut into more pieces than memory holds.
So they are counted before they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Function = Callable[..., Any]


def counted(operator: str, function: Function, expected: int) -> Function:
    """``function``, refusing with a ValueError where it would give not ``expected`` values.

    Operators that give a fixed number of values are passed on as they are.
    """
    count = _COUNTS.get(operator)
    if count is None:
        return function

    def checked(*arguments: Any, **keywords: Any) -> Any:
        pieces = count(*arguments, **keywords)
        if pieces != expected:
            raise ValueError(f"{pieces} pieces where the graph has {expected}")
        return function(*arguments, **keywords)

    return checked


def _unbound(self: torch.Tensor, dim: int = 0) -> int:
    return self.shape[dim]


def _split(self: torch.Tensor, split_size: int, dim: int = 0) -> int:
    return max(1, -(-self.shape[dim] // split_size))


def _chunks(self: torch.Tensor, chunks: int, dim: int = 0) -> int:
    size = -(-self.shape[dim] // chunks)
    return -(-self.shape[dim] // size) if size else chunks


def _listed(self: Any, split_sizes: Sequence[int], dim: int = 0) -> int:
    return len(split_sizes)


def _split_into(self: Any, split_size: Sequence[int], dim: int = 0) -> int:
    return len(split_size)


_COUNTS: dict[str, Callable[..., int]] = {
    "aten.unbind.int": _unbound,
    "aten.split.Tensor": _split,
    "aten.split.sizes": _split_into,
    "aten.split.default": _listed,
    "aten.split_with_sizes.default": _listed,
    "aten.chunk.default": _chunks,
    "aten.broadcast_tensors.default": len,
}
"""How many values each gives, by its arguments as its schema names them."""
