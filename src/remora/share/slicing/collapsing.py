"""Tensors that are walked together, seen with as few dimensions as they allow."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def collapsed(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Views of ``tensors`` (the first one written, the others read) with their dimensions in the
    order in which the first lies in memory, outermost first, and neighbours merged where all allow.

    All are expanded to the first one's shape. None where one does not fit it, or where elements of
    the first share memory. This is what torch's own iterator does before it walks.
    """
    first = tensors[0]
    try:
        same = [each.expand(first.shape) for each in tensors]
    except RuntimeError:
        return None
    order = sorted(range(first.dim()), key=lambda dim: -first.stride()[dim])
    order = [dim for dim in order if first.shape[dim] != 1]
    if any(first.stride(dim) == 0 for dim in order):
        return None
    sizes: list[int] = []
    strides: list[list[int]] = []
    for dim in order:
        size, steps = first.shape[dim], [each.stride()[dim] for each in same]
        if sizes and all(
            outer == size * inner for outer, inner in zip(strides[-1], steps, strict=True)
        ):
            sizes[-1] *= size
            strides[-1] = steps
        else:
            sizes.append(size)
            strides.append(steps)
    return [
        each.as_strided(sizes, [steps[place] for steps in strides], each.storage_offset())
        for place, each in enumerate(same)
    ]
