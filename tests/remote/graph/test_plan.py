"""Working out what a call needs before it runs."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

import pytest
import torch
from tests.remote.graph.made import CPU, graph_of, node, sent
from torch.profiler import ProfilerActivity, profile

from remora.core.errors import Refused
from remora.remote.graph.nodes import Graph, Many, Named, Node, Slot, Value
from remora.remote.graph.plan import Planner, check_inputs
from remora.remote.graph.program import NodeFailed, Program

MIB = 2**20
FLOAT = Named("dtype", "float32")
X = Value(0, "float32", (-1, -1))


def held_at_most(
    graph: Graph, inputs: list[torch.Tensor], weights: Mapping[str, torch.Tensor] | None = None
) -> int:
    """The most bytes that a real run holds, as torch's allocator says it."""
    program = Program(graph, weights or {}, CPU)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        program.run(inputs)
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_the_peak_is_what_a_real_run_holds() -> None:
    graph = graph_of(
        node("aten.relu.default", Slot(0), out=1),
        node("aten.t.default", Slot(1), out=2),  # no memory of its own
        node("aten.mm.default", Slot(1), Slot(2), out=3),
        node("aten.cat.default", Many((Slot(3), Slot(3))), out=4),
        node("aten.sum.default", Slot(4), out=5),
        inputs=[X],
        outputs=[5],
    )
    x = torch.randn(512, 256)
    planned = Planner(sent(graph), 2**40).needs(((512, 256),))
    # relu's, mm's, cat's: but relu's is gone when cat's is made.
    assert planned == x.nbytes + 512 * 512 * 4 * 3
    assert planned == x.nbytes + held_at_most(graph, [x])


def test_what_is_made_and_read_by_nobody_is_counted() -> None:
    graph = graph_of(
        Node("aten.sort.default", (Slot(0),), {}, (1, None), unpacks=True), inputs=[X], outputs=[1]
    )
    x = torch.randn(8, 4)
    assert Planner(sent(graph), 2**30).needs(((8, 4),)) == 2 * x.nbytes + 8 * x.numel()


def test_views_and_weights_are_not_counted() -> None:
    graph = graph_of(node("aten.expand.default", Slot(0), Many((2**40, 4)), out=1),
                     inputs=[X], outputs=[1])  # fmt: skip
    assert Planner(sent(graph), 2**30).needs(((1, 4),)) == 16


BOMBS: dict[str, list[Node]] = {
    "full": [node("aten.full.default", Many((2**40,)), 1.0, out=1)],
    "full, on no device": [
        node("aten.full.default", Many((2**40,)), 1.0, out=1, device=None, dtype=FLOAT)
    ],
    "read by nobody": [
        node("aten.zeros.default", Many((2**40,)), out=2),
        node("aten.relu.default", Slot(0), out=1),
    ],
    "an item read by nobody": [
        node("aten.expand.default", Slot(0), Many((2**40, 4)), out=2),
        Node("aten.sort.default", (Slot(2),), {}, (1, None), unpacks=True),
    ],
    "repeat": [node("aten.repeat.default", Slot(0), Many((2**20, 2**20)), out=1)],
    "outer product": [
        node("aten.expand.default", Slot(0), Many((2**20, 4)), out=2),
        node("aten.t.default", Slot(2), out=3),
        node("aten.mm.default", Slot(2), Slot(3), out=1),
    ],
    "pad": [node("aten.constant_pad_nd.default", Slot(0), Many((0, 2**40)), out=1)],
    "many pieces": [
        node("aten.expand.default", Slot(0), Many((2**40, 4)), out=2),
        Node("aten.unbind.int", (Slot(2),), {}, (1,), unpacks=True),
    ],
    "many chunks": [
        node("aten.expand.default", Slot(0), Many((2**40, 4)), out=2),
        Node("aten.split.Tensor", (Slot(2), 1), {}, (1,), unpacks=True),
    ],
    "a number squared again and again": [
        node("number.add", 10, 0, out=2),
        *(node("number.mul", Slot(slot), Slot(slot), out=slot + 1) for slot in range(2, 60)),
        node("aten.full.default", Many((Slot(60),)), 1.0, out=1),
    ],
    "a list repeated": [
        node("number.mul", Many((1,)), 2**40, out=2),
        node("aten.full.default", Many((Slot(2),)), 1.0, out=1),
    ],
}


FAIL = {"many pieces", "many chunks", "a number squared again and again", "a list repeated"}
"""Those that do not even get to the limit."""


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_all_memory_is_refused_at_once(name: str) -> None:
    graph = sent(graph_of(*BOMBS[name], inputs=[X], outputs=[1]))
    planner = Planner(graph, 64 * MIB)
    planner_began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = "failed: .*(pieces|64 bits|no number)" if name in FAIL else "at most 64.0 MiB are given"
    with pytest.raises(Refused, match=words):
        planner.needs(((1, 4),))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert time.perf_counter() - planner_began < 2.0


def test_the_refusal_says_how_much_and_of_how_much() -> None:
    graph = sent(graph_of(*BOMBS["repeat"], inputs=[X], outputs=[1]))
    with pytest.raises(Refused, match=r"inputs of \[1, 4\] needs .*; at most 64.0 MiB are given"):
        Planner(graph, 64 * MIB).needs(((1, 4),))


def test_shapes_that_do_not_go_together_name_the_node() -> None:
    graph = graph_of(node("aten.mm.default", Slot(0), Slot(0), out=1), inputs=[X], outputs=[1])
    with pytest.raises(NodeFailed, match=r"node 0 \(aten.mm.default\)"):
        Planner(sent(graph), MIB).needs(((2, 3),))


def test_a_shape_is_worked_out_once() -> None:
    graph = graph_of(node("aten.relu.default", Slot(0), out=1), inputs=[X], outputs=[1])
    planner = Planner(sent(graph), MIB)
    assert planner.needs(((2, 2),)) == 32
    planner._program.steps.clear()  # it could not be worked out again
    assert planner.needs(((2, 2),)) == 32


VALUES = [Value(0, "float32", (-1, 4)), Value(1, "int64", (-1,))]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([torch.zeros(2, 4)], "1 inputs; this model takes 2"),
        ([torch.zeros(2, 4), torch.zeros(2)], "input 1 is float32; this model takes int64"),
        (
            [torch.zeros(2, 5), torch.zeros(2).long()],
            r"input 0 has shape \[2, 5\]; this model takes \[any, 4\]",
        ),
        ([torch.zeros(4), torch.zeros(2).long()], r"input 0 has shape \[4\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tensors: list[torch.Tensor], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check_inputs(VALUES, tensors)


def test_inputs_that_fit_are_not() -> None:
    check_inputs(VALUES, [torch.zeros(7, 4), torch.zeros(3).long()])
