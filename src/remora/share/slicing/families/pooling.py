"""Pooling and its backward: the batch."""

from __future__ import annotations

from collections.abc import Sequence

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
        axis = along("batch", 0, call, tensors(call, *names), list(call.outputs))
        return [Part("output", tuple(call.outputs), (axis,))]

    return slicer
