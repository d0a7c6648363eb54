"""Operators that compute each element from the elements at its place, and their backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from remora.share.slicing.call import Call, written
from remora.share.slicing.collapsing import collapsed
from remora.share.slicing.contract import Axis, Part, Run, Slicer
from remora.share.slicing.writing import write

GRAIN = 1024
"""Elements between places where a flat range may begin: whole vectors of any processor."""

_NAMES = """
    abs add addcdiv addcmul bitwise_and bitwise_not bitwise_or clamp clamp_max clamp_min cos div elu
    eq erf exp ge gelu gt hardsigmoid hardswish hardtanh le leaky_relu lerp log log1p logical_and
    logical_not logical_or lt masked_fill maximum minimum mul ne neg pow reciprocal relu rsqrt rsub
    sigmoid sign silu sin sqrt sub tanh threshold where
"""
_BACKWARD = """
    elu_backward gelu_backward hardsigmoid_backward hardswish_backward hardtanh_backward
    leaky_relu_backward native_dropout_backward sigmoid_backward silu_backward tanh_backward
    threshold_backward
"""
_IN_PLACE = """
    add_ addcdiv_ addcmul_ clamp_ clamp_max_ clamp_min_ copy_ div_ exp_ fill_ gelu_ lerp_
    masked_fill_ mul_ neg_ pow_ reciprocal_ relu_ rsqrt_ sigmoid_ silu_ sqrt_ sub_ tanh_ zero_
"""


def slicers() -> dict[str, Slicer]:
    """By the name of every overload that takes tensors and gives one."""
    found: dict[str, Slicer] = {}
    for base in f"{_NAMES} {_BACKWARD} {_IN_PLACE}".split():
        packet = getattr(torch.ops.aten, base)
        for overload in packet.overloads():
            if _fits(getattr(packet, overload)):
                found[f"aten.{base}.{overload}"] = elementwise
    return found


def _fits(operator: Any) -> bool:
    schema = operator._schema
    tensors = [each for each in schema.arguments if str(each.type) == "Tensor"]
    returns = [str(each.type) for each in schema.returns]
    return bool(tensors) and returns == ["Tensor"] and not any(a.is_out for a in schema.arguments)


def elementwise(call: Call) -> Sequence[Part]:
    """Flat where all tensors lie alike; else along the outermost dimensions of the output."""
    output = call.out
    given = call.named(torch.Tensor)
    if output.is_complex() or any(each.is_complex() for each in given.values()):
        return ()
    in_place = written(call.operator)
    # A tensor without dimensions has less to say in which dtype comes out: it stays one.
    wide = {k: v for k, v in given.items() if v.dim() and k not in in_place}
    views = collapsed([output, *wide.values()])
    if views is None or not views[0].dim():
        return ()
    names = list(wide)
    return walked(views, lambda pieces: _compute(call, pieces, names, in_place))


def _compute(
    call: Call, pieces: list[torch.Tensor], names: list[str], in_place: tuple[str, ...]
) -> None:
    values = {**call.values, **dict(zip(names, pieces[1:], strict=True))}
    if in_place:
        call.operator(**{**values, in_place[0]: pieces[0]})
    else:
        write(call.operator, values, [pieces[0]])


def walked(
    views: list[torch.Tensor], compute: Callable[[list[torch.Tensor]], object]
) -> Sequence[Part]:
    """One part over ``views``, as :func:`collapsed` gives them; the first is written."""
    along = [
        Axis(
            "flat" if views[0].dim() == 1 else ("outermost", "second")[dim],
            views[0].shape[dim],
            _along(dim, views, compute),
            GRAIN if dim == views[0].dim() - 1 and views[0].stride(dim) == 1 else 1,
        )
        for dim in range(min(2, views[0].dim()))
    ]
    return [Part("output", (views[0],), tuple(along))]


def _along(
    dim: int, views: list[torch.Tensor], compute: Callable[[list[torch.Tensor]], object]
) -> Run:
    def run(begin: int, end: int) -> None:
        compute([each.narrow(dim, begin, end - begin) for each in views])

    return run
