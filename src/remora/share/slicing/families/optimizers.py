"""Optimizer steps that are one operator: all elements of all parameters as one row."""

from __future__ import annotations

from collections.abc import Sequence

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Slicer
from remora.share.slicing.families.elementwise import GRAIN
from remora.share.slicing.flat_lists import FlatLists, are_alike

_LISTS = ("self", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "momentum_buffer_list",
          "state_sums")  # fmt: skip


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    names = ("_fused_adamw_", "_fused_adam_", "_fused_sgd_", "_fused_adagrad_")
    overloads = ("default", "tensor_lr")
    return {f"aten.{name}.{overload}": fused for name in names for overload in overloads}


def fused(call: Call) -> Sequence[Part]:
    """Each parameter's count of steps goes with every piece of it: it is read, and not counted.

    A gradient scaler's scale is not: it is written to the gradients.
    """
    if call.values.get("grad_scale") is not None:
        return ()
    lists = {name: call[name] for name in _LISTS if call.values.get(name)}
    if not lists or not are_alike(lists):
        return ()
    row = FlatLists(lists)

    def run(begin: int, end: int) -> None:
        places, own = row.between(begin, end)
        if "state_steps" in call.values:
            own["state_steps"] = call["state_steps"][places]
        call.operator(**{**call.values, **own})

    writes = tuple(each for name in lists if name != "grads" for each in lists[name])
    return [Part("step", writes, (Axis("flat", row.elements, run, GRAIN),))]
