"""Operators that write into what they are given, where nobody else would see it."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node as FxNode


def without_writing(node: FxNode) -> str | None:
    """The operator that gives what ``node`` gives, and leaves its argument as it is.

    None where that is not the same: what is written into has other readers, or is a view of
    something else; or ``node`` writes into nothing.
    """
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return None
    base, overload = target._opname, target._overloadname
    written = node.args[0] if node.args else None
    if not base.endswith("_") or base.endswith("__") or not isinstance(written, FxNode):
        return None
    packet = getattr(torch.ops.aten, base[:-1], None)
    if packet is None or overload not in packet.overloads():
        return None
    alone = len(written.users) == 1 and _is_fresh(written)
    return f"aten.{base[:-1]}.{overload}" if alone and _is_of_one_dtype(node) else None


def _is_fresh(node: FxNode) -> bool:
    """Whether its value has memory of its own."""
    target: Any = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    return all(value.alias_info is None for value in target._schema.returns)


def _is_of_one_dtype(node: FxNode) -> bool:
    """Else what is written has the dtype of what was there, and what is made another."""
    read = [each.meta["val"] for each in node.all_input_nodes]
    dtypes = {value.dtype for value in (*read, node.meta["val"]) if isinstance(value, torch.Tensor)}
    return len(dtypes) == 1
