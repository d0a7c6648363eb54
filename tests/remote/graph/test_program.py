"""Running a graph."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.remote.graph.made import CPU, graph_of, node, run, sent
from torch.utils._python_dispatch import TorchDispatchMode

from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.nodes import Graph, Many, Named, Node, Slot, Value
from remora.remote.graph.program import NodeFailed, Program


class Perceptron(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(self.first(x))
        return torch.softmax(self.second(hidden), -1)


@pytest.fixture(scope="module")
def perceptron() -> tuple[torch.nn.Module, Captured]:
    torch.manual_seed(0)
    module = Perceptron().eval()
    return module, capture(module, [torch.randn(2, 8)])


def program_of(captured: Captured) -> Program:
    return Program(sent(captured.graph), captured.tensors, CPU)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_it_gives_what_the_module_gives_bit_for_bit(
    perceptron: tuple[torch.nn.Module, Captured], batch: int
) -> None:
    module, captured = perceptron
    x = torch.randn(batch, 8)
    (found,) = program_of(captured).run([x])
    assert torch.equal(found, module(x))


def test_weights_and_inputs_are_as_before(perceptron: tuple[torch.nn.Module, Captured]) -> None:
    captured = perceptron[1]
    x = torch.randn(2, 8)
    before = [x.clone(), *(tensor.clone() for tensor in captured.tensors.values())]
    program_of(captured).run([x])
    after = [x, *captured.tensors.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


class Alive(TorchDispatchMode):
    """Writes down, at every operator, how many of the tensors made so far are still held."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        self.most = max(self.most, sum(made() is not None for made in self.made))
        result: torch.Tensor = func(*args, **(kwargs or {}))
        self.made.append(weakref.ref(result))
        return result


def chain(length: int) -> Graph:
    """Each node adds 1 to what the one before gave."""
    nodes = [node("aten.add.Tensor", Slot(slot), 1, out=slot + 1) for slot in range(length)]
    return graph_of(*nodes, inputs=[Value(0, "float32", (-1,))], outputs=[length])


def test_values_are_freed_behind_their_last_use() -> None:
    program, x = Program(chain(20), {}, CPU), torch.zeros(3)
    with Alive() as alive:
        (found,) = program.run([x])
    assert found.tolist() == [20.0] * 3
    assert len(alive.made) == 20
    # Only what the node at work reads: it has not been freed yet.
    assert alive.most == 1
    assert sum(made() is not None for made in alive.made) == 1


def test_one_that_is_told_to_free_nothing_leaves_that_to_the_caller() -> None:
    program, x = Program(chain(20), {}, CPU, freed=[()] * 20), torch.zeros(3)
    with Alive() as alive:
        program.run([x])
    assert alive.most == 19


def test_an_output_that_is_read_again_is_kept() -> None:
    doubled = node("aten.add.Tensor", Slot(0), Slot(0), out=1)
    again = node("aten.add.Tensor", Slot(1), Slot(1), out=2)
    graph = graph_of(doubled, again, inputs=[Value(0, "float32", (-1,))], outputs=[1, 2, 0])
    found = run(graph, torch.ones(1))
    assert [tensor.item() for tensor in found] == [2.0, 4.0, 1.0]


def test_a_node_that_fails_is_named() -> None:
    fits = node("aten.add.Tensor", Slot(0), 1, out=2)
    not_fits = node("aten.mm.default", Slot(2), Slot(1), out=3)
    values = [Value(0, "float32", (-1, -1)), Value(1, "float32", (-1, -1))]
    graph = graph_of(fits, not_fits, inputs=values, outputs=[3])
    with pytest.raises(
        NodeFailed, match=r"node 1 \(aten.mm.default\) failed: mat1 and mat2"
    ) as info:
        run(graph, torch.ones(2, 3), torch.ones(2, 3))
    assert (info.value.node, info.value.operator) == (1, "aten.mm.default")


@pytest.mark.parametrize("operator", ["aten.add.Tensor", "number.add", "aten.unbind.int"])
def test_arguments_of_the_wrong_kind_fail_with_their_node(operator: str) -> None:
    text = Node(operator, ("text", "text"), {}, (0,), operator == "aten.unbind.int")
    with pytest.raises(NodeFailed, match="node 0"):
        Program(graph_of(text, outputs=[0]), {}, CPU).run([])


def test_a_tensor_is_cut_into_as_many_pieces_as_the_graph_has_slots() -> None:
    cut = Node("aten.unbind.int", (Slot(0),), {}, (1, None, 2), unpacks=True)
    graph = graph_of(cut, inputs=[Value(0, "float32", (-1,))], outputs=[1, 2])
    assert [tensor.item() for tensor in run(graph, torch.arange(3.0))] == [0.0, 2.0]
    with pytest.raises(NodeFailed, match="4 pieces where the graph has 3"):
        run(graph, torch.arange(4.0))


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("aten.split.Tensor", (2, 0)),
        ("aten.split.sizes", (Many((2, 2, 1)), 0)),
        ("aten.split_with_sizes.default", (Many((2, 2, 1)), 0)),
        ("aten.chunk.default", (3, 0)),
    ],
)
def test_pieces_are_counted_as_torch_makes_them(operator: str, arguments: tuple[Any, ...]) -> None:
    cut = Node(operator, (Slot(0), *arguments), {}, (1, 2, 3), unpacks=True)
    graph = graph_of(cut, inputs=[Value(0, "float32", (-1,))], outputs=[1, 2, 3])
    found = run(graph, torch.arange(5.0))
    assert [tensor.tolist() for tensor in found] == [[0, 1], [2, 3], [4]]


def test_constants_and_lists_are_given_to_each_operator() -> None:
    joined = node("aten.cat.default", Many((Slot(0), Slot(0))), 1, out=1)
    cast = node("aten.to.dtype", Slot(1), Named("dtype", "int64"), out=2)
    graph = graph_of(joined, cast, inputs=[Value(0, "float32", (-1, -1))], outputs=[2])
    (found,) = run(graph, torch.ones(1, 2))
    assert found.dtype is torch.int64
    assert found.tolist() == [[1, 1, 1, 1]]


def test_runs_in_several_threads_do_not_meet(
    perceptron: tuple[torch.nn.Module, Captured],
) -> None:
    module, captured = perceptron
    program = program_of(captured)
    inputs = [torch.randn(2, 8) for _ in range(32)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: program.run([x])[0], inputs))
    assert all(torch.equal(out, module(x)) for out, x in zip(found, inputs, strict=True))
