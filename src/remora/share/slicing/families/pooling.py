"""Pooling and its backward: planes, or the batch where those do not lie one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Part, Slicer
from remora.share.slicing.narrowing import along, tensors


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    names = {
        "max_pool2d_with_indices": ("self",),
        "max_pool2d_with_indices_backward": ("grad_output", "self", "indices"),
        "avg_pool2d": ("self",),
        "avg_pool2d_backward": ("grad_output", "self"),
        "_adaptive_avg_pool2d": ("self",),
        "_adaptive_avg_pool2d_backward": ("grad_output", "self"),
    }
    return {f"aten.{name}.default": _slicer(given) for name, given in names.items()}


def _slicer(names: tuple[str, ...]) -> Slicer:
    def slicer(call: Call) -> Sequence[Part]:
        if call[names[0]].dim() != 4:
            return ()  # without a batch
        given, made = tensors(call, *names), list(call.outputs)
        if all(each.is_contiguous() for each in (*given.values(), *made)):
            given = {name: _planes(each) for name, each in given.items()}
            axis = along("planes", 0, call, given, [_planes(each) for each in made])
        else:
            axis = along("batch", 0, call, given, made)
        return [Part("output", tuple(call.outputs), (axis,))]

    return slicer


def _planes(tensor: Tensor) -> Tensor:
    """As images of one channel."""
    return tensor.view(-1, 1, *tensor.shape[2:])
