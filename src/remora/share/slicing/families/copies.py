"""Operators that move elements, or fill with one value, and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remora.share.slicing.call import Call
from remora.share.slicing.collapsing import collapsed
from remora.share.slicing.contract import Axis, Part, Slicer
from remora.share.slicing.families.elementwise import walked


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {
        "aten.clone.default": copied,
        "aten._to_copy.default": copied,
        "aten.cat.default": concatenated,
        "aten.zeros_like.default": lambda call: filled(call, 0),
        "aten.ones_like.default": lambda call: filled(call, 1),
        "aten.full_like.default": lambda call: filled(call, call["fill_value"]),
    }


def filled(call: Call, value: complex) -> Sequence[Part]:
    """With one value."""
    views = collapsed([call.out])
    if views is None or not views[0].dim():
        return ()
    return walked(views, lambda pieces: pieces[0].fill_(value))


def copied(call: Call) -> Sequence[Part]:
    """Into memory that lies as the copy would, of its dtype and on its device."""
    views = collapsed([call.out, call["self"]])
    if views is None or not views[0].dim():
        return ()
    return walked(views, lambda pieces: pieces[0].copy_(pieces[1]))


def concatenated(call: Call) -> Sequence[Part]:
    """Along the dimension that joins, and along the outermost of the others."""
    output, tensors = call.out, [each for each in call["tensors"] if each.numel()]
    if not tensors:
        return ()
    dim = call["dim"] % output.dim()
    begins = [0]
    for each in tensors:
        begins.append(begins[-1] + each.shape[dim])

    def joined(begin: int, end: int) -> None:
        for at, tensor in zip(begins, tensors, strict=False):
            low, high = max(begin, at), min(end, at + tensor.shape[dim])
            if low < high:
                source = tensor.narrow(dim, low - at, high - low)
                output.narrow(dim, low, high - low).copy_(source)

    axes = [Axis("joined", output.shape[dim], joined)]
    others = [other for other in range(output.dim()) if other != dim and output.shape[other] > 1]
    if others:
        other = others[0]

        def across(begin: int, end: int) -> None:
            pieces = [each.narrow(other, begin, end - begin) for each in tensors]
            torch.ops.aten.cat.out(pieces, dim, out=output.narrow(other, begin, end - begin))

        axes.insert(0, Axis("outermost", output.shape[other], across))
    return [Part("output", (output,), tuple(axes))]
