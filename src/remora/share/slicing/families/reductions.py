"""Sums and the like: along a dimension that is kept. Where none is, they are not cut: a sum of
partial sums is another sum."""

from __future__ import annotations

from collections.abc import Sequence

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Slicer
from remora.share.slicing.writing import write

GRAIN = 16
"""Indices of the innermost dimension between places where a range may begin."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    names = ("sum.dim_IntList", "mean.dim", "amax.default", "amin.default")
    return {f"aten.{name}": reduced for name in names}


def reduced(call: Call) -> Sequence[Part]:
    """The first kept dimension, and the last."""
    source, output = call["self"], call.out
    gone = {dim % source.dim() for dim in call["dim"] or ()} if source.dim() else set()
    kept = [dim for dim in range(source.dim()) if dim not in gone and source.shape[dim] > 1]
    if not gone or not kept:
        return ()
    places = dict.fromkeys([kept[0], kept[-1]])
    axes = [_axis(call, dim, _place(call, dim, gone)) for dim in places]
    return [Part("output", (output,), tuple(axes))]


def _place(call: Call, dim: int, gone: set[int]) -> int:
    """Where ``dim`` of the source is in the output."""
    return dim if call["keepdim"] else dim - sum(other < dim for other in gone)


def _axis(call: Call, dim: int, place: int) -> Axis:
    source, output = call["self"], call.out

    def run(begin: int, end: int) -> None:
        values = {**call.values, "self": source.narrow(dim, begin, end - begin)}
        write(call.operator, values, [output.narrow(place, begin, end - begin)])

    is_inner = source.stride(dim) == 1
    return Axis(f"dimension {dim}", source.shape[dim], run, GRAIN if is_inner else 1)
