"""Operators on lists of tensors, as optimizers use them: all elements as one row, or by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from remora.share.slicing.call import Call, written
from remora.share.slicing.contract import Axis, Part, Slicer
from remora.share.slicing.families.elementwise import GRAIN
from remora.share.slicing.flat_lists import FlatLists, are_alike
from remora.share.slicing.writing import write

_IN_PLACE = """
    _foreach_abs_ _foreach_add_ _foreach_addcdiv_ _foreach_addcmul_ _foreach_clamp_max_
    _foreach_clamp_min_ _foreach_copy_ _foreach_div_ _foreach_exp_ _foreach_lerp_ _foreach_maximum_
    _foreach_minimum_ _foreach_mul_ _foreach_neg_ _foreach_pow_ _foreach_reciprocal_ _foreach_sign_
    _foreach_sqrt_ _foreach_sub_ _foreach_zero_
"""
_MAKING = """
    _foreach_abs _foreach_add _foreach_addcdiv _foreach_addcmul _foreach_div _foreach_exp
    _foreach_lerp _foreach_maximum _foreach_minimum _foreach_mul _foreach_neg _foreach_pow
    _foreach_reciprocal _foreach_sign _foreach_sqrt _foreach_sub
"""


def slicers() -> dict[str, Slicer]:
    """By the name of every overload that takes lists of tensors first."""
    found: dict[str, Slicer] = {}
    for base in f"{_IN_PLACE} {_MAKING}".split():
        packet = getattr(torch.ops.aten, base)
        for name in packet.overloads():
            schema = getattr(packet, name)._schema
            is_out = any(each.is_out for each in schema.arguments)
            if not is_out and str(schema.arguments[0].type) == "List[Tensor]":
                found[f"aten.{base}.{name}"] = foreach
    return {**found, "aten._foreach_norm.Scalar": norms}


def foreach(call: Call) -> Sequence[Part]:
    """All elements as one row where the lists lie alike."""
    names = [name for name, value in call.values.items() if _is_tensors(value)]
    lists: dict[str, Sequence[torch.Tensor]] = {name: call[name] for name in names}
    makes = [] if written(call.operator) else list(call.outputs)
    if makes:
        lists["made"] = makes[0] if isinstance(makes[0], list | tuple) else makes
    if not are_alike(lists):
        return ()
    row, single = FlatLists(lists), _single(call)
    numbers = [name for name, value in call.values.items() if _is_one_each(value)]

    def run(begin: int, end: int) -> None:
        places, own = row.between(begin, end)
        made = own.pop("made", None)
        if made is not None and single is not None:
            for source, output in zip(own["self"], made, strict=True):
                write(single, {"self": source}, [output])
            return
        values = {**call.values, **own, **{name: call[name][places] for name in numbers}}
        result = call.operator(**values)
        if made is not None:
            torch._foreach_copy_(made, list(result))

    writes = lists["made"] if makes else lists["self"]
    return [Part("output", tuple(writes), (Axis("flat", row.elements, run, GRAIN),))]


def _single(call: Call) -> Any:
    """The operator for one tensor, where it takes nothing else and computes on a CPU, which goes
    through lists tensor by tensor: it writes where the result belongs, and nothing is copied."""
    arguments = call.operator._schema.arguments
    if len(arguments) > 1 or any(each.device.type != "cpu" for each in call["self"]):
        return None
    base = call.operator._schema.name.removeprefix("aten::_foreach_")
    return getattr(torch.ops.aten, base).default


def norms(call: Call) -> Sequence[Part]:
    """Tensor by tensor: the norm of one is a sum over all of it."""
    outputs = call.outputs[0] if isinstance(call.outputs[0], list | tuple) else call.outputs

    def run(begin: int, end: int) -> None:
        made = call.operator(**{**call.values, "self": call["self"][begin:end]})
        torch._foreach_copy_(list(outputs[begin:end]), list(made))

    return [Part("output", tuple(outputs), (Axis("tensors", len(call["self"]), run),))]


def _is_tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], torch.Tensor)


def _is_one_each(value: Any) -> bool:
    """Whether there is a number for each tensor, in a list or in a tensor."""
    if isinstance(value, torch.Tensor):
        return value.dim() == 1
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], int | float)
