"""Graphs that do worse on purpose, to measure what each thing a server keeps is worth."""

from __future__ import annotations

import msgspec

from remora.remote.graph.nodes import Graph, Value


def weights_as_inputs(graph: Graph) -> Graph:
    """``graph`` with every weight an input behind the others: they come with each call."""
    more = tuple(Value(weight.slot, weight.dtype, weight.dims) for weight in graph.weights)
    return msgspec.structs.replace(graph, weights=(), inputs=(*graph.inputs, *more))


def as_another(graph: Graph, number: int) -> Graph:
    """``graph`` with slots that nothing fills, so that a server does not find it among those it has
    checked and planned already.
    """
    return msgspec.structs.replace(graph, slots=graph.slots + 1 + number % _OTHERS)


_OTHERS = 1000
