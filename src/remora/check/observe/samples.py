"""Those elements of tensors that are read to estimate norms: all of small ones, some of large ones.

Of a tensor of more than :data:`MOST_ELEMENTS` elements so many are read, evenly spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

MOST_ELEMENTS = 1 << 13
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def elements_of(tensors: Sequence[Any]) -> list[torch.Tensor] | None:
    """Of each, the elements that are read; None if of one they cannot be.

    So it is with what is no plain tensor (sparse, sharded, lazy), and on several devices.
    """
    found, device = [], None
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_meta:
            return None
        if tensor.device != (device := device or tensor.device):
            return None
        if tensor.requires_grad:
            tensor = tensor.detach()
        if tensor.numel() > MOST_ELEMENTS:
            tensor = _spread(tensor)
        found.append(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
    return found


def share_of(tensor: torch.Tensor, read: torch.Tensor) -> float:
    """How many times the norm of what is ``read`` the norm of all of ``tensor`` is."""
    whole, part = tensor.numel(), read.numel()
    return math.sqrt(whole / max(part, 1)) if part < whole else 1.0


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """So many elements, evenly spread; where they do not lie in a row, every so many-th row."""
    if tensor.is_contiguous():
        return tensor.view(-1)[:: tensor.numel() // MOST_ELEMENTS]
    return tensor[:: max(1, tensor.numel() // MOST_ELEMENTS // tensor[0].numel())]


class Sample:
    """The elements that are read of the same tensors again and again, as one row.

    The views are kept for as long as the tensors lie where they lay.
    """

    def __init__(self) -> None:
        self._where: list[int] = []
        self._views: list[torch.Tensor] = []
        self._weights: torch.Tensor | None = None

    def now(self, tensors: Sequence[Any]) -> torch.Tensor | None:
        """A copy of them in one row; None if they cannot be read."""
        try:
            where = [tensor.data_ptr() for tensor in tensors]
        except (RuntimeError, ValueError, NotImplementedError):  # lazy, sparse or fake
            return None
        if where != self._where and not self._meet(tensors, where):
            return None
        return torch.cat(self._views).float()

    def norm(self, row: torch.Tensor) -> torch.Tensor:
        """Of all elements, estimated from those of ``row``."""
        weighted = row if self._weights is None else row * self._weights
        norm: torch.Tensor = torch.linalg.vector_norm(weighted)
        return norm

    def _meet(self, tensors: Sequence[Any], where: list[int]) -> bool:
        self._where = []
        read = elements_of(tensors)
        if not read:
            return False
        # a copy of what does not lie in a row would not follow it
        if not all(one.is_contiguous() or one.dim() == 1 for one in read):
            where = []
        self._views = [one.reshape(-1) for one in read]
        shares = [share_of(*each) for each in zip(tensors, self._views, strict=True)]
        self._weights = None
        if any(share != 1.0 for share in shares):
            counts = torch.tensor([one.numel() for one in self._views])
            weights = torch.tensor(shares).repeat_interleave(counts)
            self._weights = weights.to(self._views[0].device)
        self._where = where
        return True
