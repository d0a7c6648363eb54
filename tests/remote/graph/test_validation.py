"""Graphs that came from strangers."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.graph.made import LIMITS, graph_of, node

from remora.core.errors import Refused
from remora.remote.graph.nodes import (
    Argument,
    Graph,
    Many,
    Named,
    Node,
    Slot,
    Value,
    Weight,
    slots_in,
    slots_read,
)
from remora.remote.graph.plan import Planner
from remora.remote.graph.validation import GraphLimits, decode, validate

X = Value(0, "float32", (-1, 4))
W = Weight(1, "weight", "a" * 64, "float32", (4, 4))
GOOD = graph_of(
    node("aten.mm.default", Slot(0), Slot(1), out=2),
    node("aten.sym_size.int", Slot(0), 0, out=3),
    node("number.mul", Slot(3), 4, out=4),
    node("aten.view.default", Slot(2), Many((Slot(4),)), out=5),
    Node("aten.sort.default", (Slot(5),), {"descending": True}, (6, None), unpacks=True),
    node("aten.to.dtype", Slot(6), Named("dtype", "float64"), out=7),
    inputs=[X],
    weights=[W],
    outputs=[7],
)


def changed(**fields: Any) -> Graph:
    return msgspec.structs.replace(GOOD, **fields)


def with_node(index: int, **fields: Any) -> Graph:
    nodes = list(GOOD.nodes)
    nodes[index] = msgspec.structs.replace(nodes[index], **fields)
    return changed(nodes=tuple(nodes))


def deep(depth: int) -> Many:
    many = Many((1,))
    for _ in range(depth):
        many = Many((many,))
    return many


STATISTICS = (Slot(0), None, None, Slot(1), Slot(2))
ATTENDED = (Slot(0), Slot(0), Slot(0), None)


def normalised(name: str, *arguments: Argument) -> Graph:
    """A graph whose running statistics are weights, which others may have as well."""
    weights = [Weight(slot, "w", str(slot) * 64, "float32", (4,)) for slot in (1, 2)]
    one = node(name, *arguments, out=3)
    return graph_of(one, inputs=[X], weights=weights, outputs=[3])


@pytest.mark.parametrize(
    "graph",
    [
        normalised("aten.batch_norm.default", *STATISTICS, True, 0.1, 1e-5, False),
        normalised("aten.batch_norm.default", *STATISTICS, 1, 0.1, 1e-5, False),
        normalised("aten.batch_norm.default", *STATISTICS, Slot(0), 0.1, 1e-5, False),
        normalised("aten.instance_norm.default", *STATISTICS, True, 0.1, 1e-5, False),
        normalised("aten.scaled_dot_product_attention.default", *ATTENDED, 0.5),
    ],
)
def test_an_operator_that_would_change_a_weight_or_draw_is_refused(graph: Graph) -> None:
    with pytest.raises(Refused, match=r"\(aten\..*\) is given \w+ other than"):
        validate(graph, LIMITS)


@pytest.mark.parametrize(
    "graph",
    [
        normalised("aten.batch_norm.default", *STATISTICS, False, 0.1, 1e-5, False),
        normalised("aten.instance_norm.default", *STATISTICS, False, 0.1, 1e-5, False),
        normalised("aten.instance_norm.default", Slot(0), *[None] * 4, True, 0.1, 1e-5, False),
        normalised("aten.scaled_dot_product_attention.default", *ATTENDED, 0.0),
        normalised("aten.scaled_dot_product_attention.default", *ATTENDED),
    ],
)
def test_as_inference_has_them_they_pass(graph: Graph) -> None:
    validate(graph, LIMITS)


def test_a_good_one_passes() -> None:
    validate(GOOD, LIMITS)
    assert decode(msgspec.msgpack.encode(GOOD), LIMITS) == GOOD
    assert Planner(GOOD, 2**20).needs(((2, 4),)) > 0


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (changed(version=2), "version 2; this server runs version 1"),
        (changed(slots=-1), "-1 slots; at most 1000000 are taken"),
        (changed(slots=10**9), "1000000000 slots"),
        (changed(nodes=GOOD.nodes * 40_000), "240000 nodes"),
        (changed(inputs=(X,) * 20_000), "20000 inputs"),
        (changed(inputs=(X, X)), r"slot 0 of 8 cannot be filled \(again\)"),
        (changed(inputs=(Value(0, "float31", (4,)),)), "unknown dtype 'float31'; choose from: f"),
        (changed(inputs=(Value(0, "float32", (-2,)),)), r"no tensor has the shape \[-2\]"),
        (changed(inputs=(Value(0, "float32", (2,) * 17),)), "no tensor has the shape"),
        (changed(weights=(Weight(1, "w", "a" * 63, "float32", ()),)), "'w' has no digest of 64"),
        (changed(weights=(Weight(1, "w", "A" * 64, "float32", ()),)), "no digest"),
        (changed(weights=(Weight(1, "w", "a" * 64, "float32", (-1,)),)), "no tensor has"),
        (changed(weights=()), "slot 1 is read before anything fills it"),
        (changed(outputs=(Slot(9),)), "slot 9 is read before"),
        (changed(outputs=(Many((Slot(-1),)),)), "slot -1 is read before"),
        (changed(nodes=GOOD.nodes[1:]), "slot 2 is read before"),
        (with_node(0, operator="aten.add_.Tensor"), "'aten.add_.Tensor' is not one that a server"),
        (with_node(0, operator="x" * 10_000), "operator 'x{100}' is not"),
        (with_node(0, outputs=(99,)), "slot 99 of 8 cannot be filled"),
        (with_node(0, outputs=(-1,)), "slot -1 of 8 cannot be filled"),
        (with_node(0, outputs=()), r"node 0 \(aten.mm.default\) fills no slot"),
        (with_node(0, outputs=(None,)), "fills no slot"),
        (with_node(0, outputs=(2, None)), "fills no slot, or several with one value"),
        (with_node(0, unpacks=True), "node 0: aten.mm.default returns another number of values"),
        (with_node(4, outputs=(6,)), "node 4: aten.sort.default returns another number of values"),
        (with_node(0, arguments=(Slot(0),) * 9), "node 0: aten.mm.default takes no such arguments"),
        (with_node(0, keywords={"out": Slot(0)}), r"takes no such arguments \['out'\]"),
        (with_node(3, arguments=(Slot(2), deep(5))), "a list of 1 arguments, 4 deep"),
        (with_node(3, arguments=(Slot(2), Many((1,) * 10_001))), "a list of 10001 arguments"),
        (with_node(3, arguments=(Slot(2), Many((2**63,)))), "9223372036854775808 does not fit"),
        (with_node(5, arguments=(Slot(6), Named("file", "x"))), "cannot name the file 'x'"),
        (with_node(5, arguments=(Slot(6), Named("device", "cuda:0"))), "cannot name the device"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_refused_with_words(graph: Graph, words: str) -> None:
    with pytest.raises(Refused, match=words):
        validate(graph, LIMITS)


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\xc1", b"\x80", b"\x93\x01", msgspec.msgpack.encode({"slots": 1}), b"\x91" * 100_000],
)
def test_bytes_that_are_no_graph_are_refused(encoded: bytes) -> None:
    with pytest.raises(Refused, match="this is no graph"):
        decode(encoded, LIMITS)


def test_more_bytes_than_are_taken_are_not_read() -> None:
    with pytest.raises(Refused, match="a graph of 100 bytes; at most 99 are taken"):
        decode(b"\x80" * 100, GraphLimits(encoded_bytes=99))


def holds_together(graph: Graph) -> bool:
    """What any graph that passes must be: no slot read before it is filled, none filled twice."""
    filled = [weight.slot for weight in graph.weights] + [value.slot for value in graph.inputs]
    for each in graph.nodes:
        if not set(slots_read(each)) <= set(filled):
            return False
        filled += [slot for slot in each.outputs if slot is not None]
    read = {slot for output in graph.outputs for slot in slots_in(output)}
    inside = all(0 <= slot < graph.slots for slot in filled)
    return inside and len(set(filled)) == len(filled) and read <= set(filled)


def passes_only_if_it_holds_together(encoded: bytes) -> None:
    """And then it runs on shapes, or says which node does not."""
    try:
        graph = decode(encoded, LIMITS)
    except Refused as error:
        refusal = str(error)
        assert refusal.strip()
        assert "\n" not in refusal
        return
    assert holds_together(graph)
    shapes = tuple(tuple(max(size, 2) for size in value.dims) for value in graph.inputs)
    with contextlib.suppress(Refused):
        Planner(graph, 2**20).needs(shapes)


SLOTS = st.integers(-1, 8).map(Slot)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=5)
    | SLOTS
    | st.builds(Named, st.sampled_from(["dtype", "device", "layout", "x"]),
                st.sampled_from(["float32", "here", "strided", "y"]))
)  # fmt: skip
ARGUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple).map(Many), max_leaves=6
)
NAMES = st.sampled_from(
    ["aten.mm.default", "aten.sort.default", "aten.unbind.int", "aten.full.default",
     "aten.repeat.default", "aten.expand.default", "aten.cat.default", "aten.view.default",
     "aten.sym_size.int", "aten.arange.start_step", "number.mul", "number.floordiv",
     "aten.index.Tensor", "aten.convolution.default", "aten.add_.Tensor", "nonsense"]
)  # fmt: skip
NODES = st.builds(
    Node,
    NAMES,
    st.lists(ARGUMENTS, max_size=4).map(tuple),
    st.dictionaries(
        st.sampled_from(["dim", "dtype", "device", "alpha", "out"]), ARGUMENTS, max_size=2
    ),
    st.lists(st.none() | st.integers(-1, 8), max_size=2).map(tuple),
    st.booleans(),
)
DIMS = st.lists(st.integers(-2, 4), max_size=3).map(tuple)
GRAPHS = st.builds(
    Graph,
    st.integers(-1, 9),
    st.lists(st.builds(Weight, st.integers(-1, 8), st.text(max_size=3), st.just("a" * 64),
                       st.sampled_from(["float32", "int64", "x"]), DIMS), max_size=2).map(tuple),
    st.lists(st.builds(Value, st.integers(-1, 8), st.sampled_from(["float32", "int64", "x"]), DIMS),
             max_size=2).map(tuple),
    st.lists(NODES, max_size=5).map(tuple),
    st.lists(ARGUMENTS, max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(GRAPHS)
def test_random_graphs_pass_only_if_they_hold_together(graph: Graph) -> None:
    try:
        encoded = msgspec.msgpack.encode(graph)
    except OverflowError:  # a number that msgpack has no room for
        return
    passes_only_if_it_holds_together(encoded)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_good_graph_with_bytes_changed_does(data: st.DataObject) -> None:
    encoded = bytearray(msgspec.msgpack.encode(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        if data.draw(st.booleans()):
            encoded[place] = data.draw(st.integers(0, 255))
        else:
            del encoded[place : place + data.draw(st.integers(1, 8))]
    passes_only_if_it_holds_together(bytes(encoded))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD.nodes) - 1), NODES)
def test_a_good_graph_with_a_node_changed_does(index: int, other: Node) -> None:
    nodes = (*GOOD.nodes[:index], other, *GOOD.nodes[index + 1 :])
    try:
        encoded = msgspec.msgpack.encode(changed(nodes=nodes))
    except OverflowError:
        return
    passes_only_if_it_holds_together(encoded)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_do(encoded: bytes) -> None:
    passes_only_if_it_holds_together(encoded)


def test_the_device_of_a_new_tensor_is_where_the_graph_runs() -> None:
    sizes = Many((2,))
    graph = graph_of(node("aten.full.default", sizes, 1.0, out=0, device=None), outputs=[0])
    planner = Planner(graph, 2**20)
    values = planner._program.begin([])
    planner._program.steps[0](values)
    assert values[0].device == torch.device("meta")
