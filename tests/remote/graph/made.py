"""Graphs made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch

from remora.remote.graph.nodes import Argument, Graph, Node, Slot, Value, Weight
from remora.remote.graph.program import Program
from remora.remote.graph.validation import GraphLimits, decode

CPU = torch.device("cpu")
LIMITS = GraphLimits()


def node(operator: str, *arguments: Argument, out: int, **keywords: Argument) -> Node:
    """One that fills slot ``out``."""
    return Node(operator, arguments, keywords, (out,))


def graph_of(
    *nodes: Node,
    outputs: Sequence[int],
    inputs: Sequence[Value] = (),
    weights: Sequence[Weight] = (),
) -> Graph:
    """A graph of ``nodes``, with as many slots as it takes."""
    filled = [slot for each in nodes for slot in each.outputs if slot is not None]
    filled += [value.slot for value in inputs] + [weight.slot for weight in weights]
    return Graph(
        max(filled, default=0) + 1,
        tuple(weights),
        tuple(inputs),
        tuple(nodes),
        tuple(Slot(slot) for slot in outputs),
    )


def sent(graph: Graph) -> Graph:
    """``graph`` as it arrives: encoded, decoded and checked."""
    return decode(msgspec.msgpack.encode(graph), LIMITS)


def run(graph: Graph, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of a graph without weights."""
    return Program(sent(graph), {}, CPU).run(inputs)
