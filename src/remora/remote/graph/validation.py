"""Whether a graph that came from a stranger may be run: everything about it that can be checked."""

from __future__ import annotations

import re

import msgspec
import torch

from remora.core.errors import Refused
from remora.remote.graph.nodes import (
    VERSION,
    Argument,
    Graph,
    Many,
    Named,
    Node,
    slots_in,
    slots_read,
)
from remora.remote.graph.operators import NAMED, object_of, schema
from remora.remote.graph.settled import unsettled

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HERE = torch.device("cpu")


class GraphLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a graph may hold."""

    encoded_bytes: int = 64 * 2**20
    slots: int = 1_000_000
    nodes: int = 200_000
    weights: int = 100_000
    inputs: int = 10_000
    dimensions: int = 16
    items: int = 10_000
    """Items of one list of arguments."""
    depth: int = 3
    """Lists in lists."""


def decode(encoded: bytes | memoryview, limits: GraphLimits) -> Graph:
    """A graph from its bytes, checked by :func:`validate`.

    Raises:
        Refused: it is none, or not one that may be run.
    """
    if len(encoded) > limits.encoded_bytes:
        raise Refused(f"a graph of {len(encoded)} bytes; at most {limits.encoded_bytes} are taken")
    try:
        graph = msgspec.msgpack.decode(encoded, type=Graph)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"this is no graph: {error}") from error
    validate(graph, limits)
    return graph


def validate(graph: Graph, limits: GraphLimits) -> None:
    """Check all of ``graph``.

    Raises:
        Refused: it is of another version, too large, holds an operator or a name that is not
            allowed, reads a slot that nothing has filled, or fills one twice.
    """
    if graph.version != VERSION:
        raise Refused(f"a graph of version {graph.version}; this server runs version {VERSION}")
    _check_counts(graph, limits)
    filled = _Filled(graph.slots)
    for weight in graph.weights:
        if not _DIGEST.fullmatch(weight.digest):
            raise Refused(f"weight {weight.name[:100]!r} has no digest of 64 hex digits")
        _check_tensor(weight.dtype, weight.dims, limits, least=0)
        filled.add(weight.slot)
    for value in graph.inputs:
        _check_tensor(value.dtype, value.dims, limits, least=-1)
        filled.add(value.slot)
    for index, node in enumerate(graph.nodes):
        _check_node(index, node, filled, limits)
    for output in graph.outputs:
        _check_argument(output, limits)
        filled.read(slots_in(output))


class _Filled:
    """Which slots hold a value so far."""

    def __init__(self, slots: int) -> None:
        self._slots, self._filled = slots, set[int]()

    def add(self, slot: int) -> None:
        if not 0 <= slot < self._slots or slot in self._filled:
            raise Refused(f"slot {slot} of {self._slots} cannot be filled (again)")
        self._filled.add(slot)

    def read(self, slots: list[int]) -> None:
        missing = [slot for slot in slots if slot not in self._filled]
        if missing:
            raise Refused(f"slot {missing[0]} is read before anything fills it")


def _check_counts(graph: Graph, limits: GraphLimits) -> None:
    for name, count in (
        ("slots", graph.slots),
        ("nodes", len(graph.nodes)),
        ("weights", len(graph.weights)),
        ("inputs", len(graph.inputs)),
    ):
        most = getattr(limits, name)
        if not 0 <= count <= most:
            raise Refused(f"a graph with {count} {name}; at most {most} are taken")


def _check_tensor(dtype: str, dims: tuple[int, ...], limits: GraphLimits, *, least: int) -> None:
    if dtype not in NAMED["dtype"]:
        raise Refused(f"unknown dtype {dtype[:40]!r}; choose from: {', '.join(NAMED['dtype'])}")
    if len(dims) > limits.dimensions or any(not least <= size < 2**48 for size in dims):
        raise Refused(f"no tensor has the shape {list(dims)[:20]}")


def _check_node(index: int, node: Node, filled: _Filled, limits: GraphLimits) -> None:
    for argument in (*node.arguments, *node.keywords.values()):
        _check_argument(argument, limits)
    _check_signature(index, node)
    words = unsettled(node)
    if words is not None:
        raise Refused(f"node {index} ({node.operator}) is given {words}; graphs only infer")
    filled.read(slots_read(node))
    if not node.outputs or (
        not node.unpacks and (len(node.outputs) > 1 or node.outputs[0] is None)
    ):
        raise Refused(
            f"node {index} ({node.operator[:100]}) fills no slot, or several with one value"
        )
    for slot in node.outputs:
        if slot is not None:
            filled.add(slot)


def _check_signature(index: int, node: Node) -> None:
    """As many arguments as the operator has, and none by a name that it has not."""
    known = schema(node.operator)
    if known is None:
        return
    names = [argument.name for argument in known.arguments]
    unknown = [name for name in node.keywords if name not in names]
    if len(node.arguments) > len(names) or unknown:
        raise Refused(f"node {index}: {node.operator} takes no such arguments {unknown[:3]}")
    several = len(known.returns) != 1
    if node.unpacks != _returns_several(known) or (
        several and len(node.outputs) != len(known.returns)
    ):
        raise Refused(f"node {index}: {node.operator} returns another number of values")


def _returns_several(known: torch.FunctionSchema) -> bool:
    if len(known.returns) != 1:
        return True
    return known.returns[0].type.kind() == "ListType"


def _check_argument(argument: Argument, limits: GraphLimits, depth: int = 0) -> None:
    if isinstance(argument, Many):
        if depth >= limits.depth or len(argument.items) > limits.items:
            raise Refused(f"a list of {len(argument.items)} arguments, {depth + 1} deep")
        for item in argument.items:
            _check_argument(item, limits, depth + 1)
    elif isinstance(argument, Named):
        object_of(argument.kind, argument.name, _HERE)
    elif isinstance(argument, int) and not -(2**63) <= argument < 2**63:
        raise Refused(f"the number {argument} does not fit 64 bits")
