"""Which tokens a token may see, told in the way that a model's step wants to be told."""

from __future__ import annotations

import torch

from remora.remote.graph.nodes import Value


def fits(mask: Value) -> bool:
    """Whether a graph's input of these dims and dtype is a mask of one of the two kinds."""
    if mask.dtype == "int64":
        return mask.dims == (-1, -1)
    return mask.dims == (-1, 1, -1, -1) and mask.dtype in ("float32", "float16", "bfloat16")


def mask_for(
    mask: Value, new: int, old: int, pads: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """A mask for ``new`` tokens behind ``old``, of which the first are none.

    ``mask`` is the graph's input for it. One of floats is *added* to attention scores, 0 or the
    least there is: (batch, 1, new, old + new). (Not minus infinity: a row of those would give NaN.)
    One of whole numbers says what is *kept*, 1 or 0: (batch, old + new); the model sees to it
    itself that no token sees a later one.

    Args:
        pads: (batch), how many of the old tokens of each sequence are none.
    """
    places = torch.arange(old + new, device=device)
    kept = places >= pads[:, None]
    if mask.dtype == "int64":
        return kept.long()
    earlier = places <= torch.arange(old, old + new, device=device)[:, None]
    allowed = kept[:, None, None, :] & earlier
    dtype: torch.dtype = getattr(torch, mask.dtype)
    added = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return added.masked_fill_(~allowed, torch.finfo(dtype).min)
