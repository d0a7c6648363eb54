"""How a tensor lies in its memory: as a plan says, wherever a kernel would have put it."""

from __future__ import annotations

import torch

from remora.remote.graph.operators import NAMED
from remora.remote.segment.plan import Made, Seen


def view_of(memory: torch.Tensor, seen: Seen) -> torch.Tensor:
    """``memory`` looked at as ``seen``, which lies within it."""
    dtype = NAMED["dtype"][seen.dtype]
    if memory.dtype == dtype:
        return memory.as_strided(seen.sizes, seen.strides, seen.offset)
    storage = memory.untyped_storage()
    view = torch.empty(0, dtype=dtype, device=memory.device)
    return view.set_(storage, seen.offset, seen.sizes, seen.strides)


def laid_out(tensor: torch.Tensor, made: Made) -> torch.Tensor:
    """``tensor``, lying in memory as ``made`` says: copied where a kernel chose otherwise."""
    check_is(tensor, made)
    if tensor.stride() == made.strides and not tensor.storage_offset():
        return tensor
    laid = torch.empty_strided(made.sizes, made.strides, dtype=tensor.dtype, device=tensor.device)
    return laid.copy_(tensor)


def check_is(tensor: torch.Tensor, made: Made) -> None:
    """Whether ``tensor`` has the dtype and the sizes of ``made``.

    Raises:
        ValueError: it has not.
    """
    if tuple(tensor.shape) != made.sizes or tensor.dtype != NAMED["dtype"][made.dtype]:
        found = f"{str(tensor.dtype)[6:]} {list(tensor.shape)}"
        raise ValueError(f"it is {found}, not {made.dtype} {list(made.sizes)}")
