"""Arguments by which an operator would change what it is given, or draw: a graph may not say so.

The schemas of these operators promise that they change nothing, and hold it at one value only.
Batch norm that trains writes to its running statistics, which others may have as weights.
"""

from __future__ import annotations

from typing import Any

import torch

from remora.remote.graph.nodes import Node, Slot
from remora.remote.graph.operators import schema

_SETTLED: dict[str, tuple[str, Any]] = {
    "batch_norm": ("training", False),
    "instance_norm": ("use_input_stats", False),
    "scaled_dot_product_attention": ("dropout_p", 0.0),
}
"""By operator: an argument, and the one value that it may have."""
_STATISTICS = ("running_mean", "running_var")


def unsettled(node: Node) -> str | None:
    """What ``node`` may not say, in words; None where it says nothing of the kind."""
    base = node.operator.split(".")[1] if "." in node.operator else ""
    known = schema(node.operator) if base in _SETTLED else None
    if known is None:
        return None
    name, only = _SETTLED[base]
    given = _by_name(node, known)
    if base == "instance_norm" and all(given[each] is None for each in _STATISTICS):
        return None
    if not isinstance(given[name], Slot) and given[name] == only:
        return None
    return f"{name} other than {only}"


def _by_name(node: Node, known: torch.FunctionSchema) -> dict[str, Any]:
    names = [argument.name for argument in known.arguments]
    defaults = {argument.name: argument.default_value for argument in known.arguments}
    return {**defaults, **dict(zip(names, node.arguments, strict=False)), **node.keywords}
