"""Softmax, its logarithm, and their backward: along any dimension that is not normalised."""

from __future__ import annotations

from collections.abc import Sequence

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Part, Slicer
from remora.share.slicing.narrowing import along, tensors


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    names = {
        "_softmax": ("self",),
        "_log_softmax": ("self",),
        "_safe_softmax": ("self",),
        "_softmax_backward_data": ("grad_output", "output"),
        "_log_softmax_backward_data": ("grad_output", "output"),
    }
    return {f"aten.{name}.default": _slicer(given) for name, given in names.items()}


def _slicer(names: tuple[str, ...]) -> Slicer:
    def slicer(call: Call) -> Sequence[Part]:
        given, output, dim = tensors(call, *names), call.out, call["dim"] % max(1, call.out.dim())
        everything = [*given.values(), output]
        if output.dim() < 2:
            return ()
        if dim == output.dim() - 1 and all(each.is_contiguous() for each in everything):
            flat = {name: each.flatten(0, -2) for name, each in given.items()}
            rows = along("rows", 0, call, flat, [output.flatten(0, -2)], {"dim": 1})
            return [Part("output", (output,), (rows,))]
        other = next(other for other in range(output.dim()) if other != dim)
        axis = along("outermost", other, call, given, [output])
        return [Part("output", (output,), (axis,))]

    return slicer
