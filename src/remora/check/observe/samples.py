"""Those elements of tensors that are read to estimate norms: all of small ones, some of large ones.

Of a tensor of more than :data:`MOST_ELEMENTS` elements so many are read, evenly spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from remora.check.observe.contents import PLAIN

MOST_ELEMENTS = 1 << 13
_NUMPYS = (torch.float32, torch.float64)


def elements_of(tensors: Sequence[Any]) -> list[torch.Tensor] | None:
    """Of each, the elements that are read; None if of one they cannot be.

    So it is with what is no plain tensor (sparse, sharded, lazy), and on several devices.
    """
    found, device = [], None
    for tensor in tensors:
        if type(tensor) not in PLAIN or tensor.layout is not torch.strided or tensor.is_meta:
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

    The views are kept for as long as the tensors lie where they lay. On the host they are numpy's,
    whose calls cost a third of torch's.
    """

    def __init__(self) -> None:
        self._where: list[int] = []
        self._views: list[Any] = []
        self._join: Callable[[list[Any]], Any] = torch.cat
        self._weights: Any = None

    def now(self, tensors: Sequence[Any]) -> Any:
        """A copy of them in one row; None if they cannot be read."""
        try:
            where = [tensor.data_ptr() for tensor in tensors]
        except (RuntimeError, ValueError, NotImplementedError):  # lazy, sparse or fake
            return None
        if where != self._where and not self._meet(tensors, where):
            return None
        return self._join(self._views)

    def norm(self, row: Any) -> Any:
        """Of all elements, estimated from those of ``row``."""
        return length(row if self._weights is None else row * self._weights)

    def _meet(self, tensors: Sequence[Any], where: list[int]) -> bool:
        self._where = []
        read = elements_of(tensors)
        if not read:
            return False
        on_host = all(is_numpys(one) for one in read)
        self._views = [one.numpy().reshape(-1) if on_host else one.reshape(-1) for one in read]
        self._join = np.concatenate if on_host else _joined
        shares = [share_of(*each) for each in zip(tensors, read, strict=True)]
        self._weights = None
        if any(share != 1.0 for share in shares):
            weights = np.repeat(np.array(shares, np.float32), [one.numel() for one in read])
            device = read[0].device
            self._weights = weights if on_host else torch.from_numpy(weights).to(device)
        # a copy of what does not lie in a row would not follow it
        lie_in_rows = all(one.is_contiguous() or one.dim() == 1 for one in read)
        self._where = where if lie_in_rows else []
        return True


def is_numpys(tensor: torch.Tensor) -> bool:
    """Whether numpy can read it where it lies, and reckon with it."""
    return tensor.is_cpu and tensor.dtype in _NUMPYS and not tensor.is_neg()


def length(row: Any) -> Any:
    """The norm of a row: a number, or a tensor where it is one."""
    if isinstance(row, torch.Tensor):
        return torch.linalg.vector_norm(row)
    if row.size > MOST_ELEMENTS:  # its product would be another library's, with threads of its own
        return math.sqrt(np.square(row).sum())
    return math.sqrt(np.dot(row, row))


def _joined(views: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(views).float()
