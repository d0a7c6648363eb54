"""Random expressions: as graphs they give what torch gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.graph.made import CPU, graph_of, sent

from remora.remote.graph.nodes import Argument, Many, Node, Slot, Value
from remora.remote.graph.plan import Planner
from remora.remote.graph.program import Program

UNARY = ["relu", "exp", "neg", "tanh", "sigmoid", "abs", "t", "softmax", "size", "halves"]
BINARY = ["add", "mul", "sub", "maximum", "mm", "cat"]
SIDE = 3


@dataclass
class Expression:
    """A graph under construction, and beside it the same values by torch itself."""

    tensors: list[torch.Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    """The slot of each tensor."""
    count: int = 0

    def put(self, tensor: torch.Tensor) -> int:
        self.tensors.append(tensor)
        self.slots.append(self.count)
        self.count += 1
        return self.count - 1

    def apply(self, name: str, first: int, second: int) -> None:
        x, y = self.tensors[first], self.tensors[second]
        a, b = Slot(self.slots[first]), Slot(self.slots[second])
        if name == "size":
            self.scaled_by_its_size(x, a)
        elif name == "halves":
            _, lower = x.split([2, 1])
            outputs = (None, self.put(lower.expand(SIDE, SIDE).contiguous()))
            joined = self.count
            self.count += 1
            self.nodes.append(Node("aten.split.sizes", (a, Many((2, 1))), {}, (None, joined), True))
            self.expand(joined, outputs[1])
        elif name == "cat":
            self.add("aten.cat.default", torch.cat([x, y])[:SIDE], Many((a, b)), narrowed=True)
        elif name in BINARY:
            overload = "Tensor" if name in ("add", "mul", "sub") else "default"
            self.add(f"aten.{name}.{overload}", getattr(torch, name)(x, y), a, b)
        elif name == "softmax":
            self.add("aten.softmax.int", torch.softmax(x, -1), a, -1)
        else:
            self.add(f"aten.{name}.default", getattr(torch, name)(x), a)

    def add(
        self, operator: str, value: torch.Tensor, *arguments: Argument, narrowed: bool = False
    ) -> None:
        if narrowed:
            whole = self.count
            self.count += 1
            self.nodes.append(Node(operator, arguments, {}, (whole,)))
            operator, arguments = "aten.slice.Tensor", (Slot(whole), 0, 0, SIDE)
        self.nodes.append(Node(operator, arguments, {}, (self.put(value),)))

    def expand(self, slot: int, out: int) -> None:
        wide = self.count
        self.count += 1
        self.nodes.append(
            Node("aten.expand.default", (Slot(slot), Many((SIDE, SIDE))), {}, (wide,))
        )
        self.nodes.append(Node("aten.contiguous.default", (Slot(wide),), {}, (out,)))

    def scaled_by_its_size(self, x: torch.Tensor, a: Slot) -> None:
        size = self.count
        self.count += 1
        self.nodes.append(Node("aten.sym_size.int", (a, 0), {}, (size,)))
        self.add("aten.mul.Scalar", x * x.shape[0], a, Slot(size))


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Expression, list[int]]:
    made = Expression()
    for seed in range(2):
        made.put(torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))
    for _ in range(draw(st.integers(1, 12))):
        last = len(made.tensors) - 1
        name = draw(st.sampled_from(UNARY + BINARY))
        made.apply(name, draw(st.integers(0, last)), draw(st.integers(0, last)))
    last = len(made.tensors) - 1
    return made, draw(st.lists(st.integers(0, last), min_size=1, max_size=4))


@settings(max_examples=100, deadline=None)
@given(expressions())
def test_a_graph_gives_what_torch_gives_in_the_memory_that_was_planned(
    drawn: tuple[Expression, list[int]],
) -> None:
    expression, wanted = drawn
    inputs = [Value(slot, "float32", (SIDE, SIDE)) for slot in range(2)]
    outputs = [expression.slots[index] for index in wanted]
    graph = sent(graph_of(*expression.nodes, inputs=inputs, outputs=outputs))
    given_tensors = expression.tensors[:2]
    before = [tensor.clone() for tensor in given_tensors]
    found = Program(graph, {}, CPU).run(given_tensors)
    for index, output in zip(wanted, found, strict=True):
        assert torch.equal(output.nan_to_num(), expression.tensors[index].nan_to_num())
    assert all(map(torch.equal, before, given_tensors))
    planned = Planner(graph, 2**30).needs(((SIDE, SIDE), (SIDE, SIDE)))
    assert planned >= 2 * SIDE * SIDE * 4
    assert planned <= (2 + 2 * len(graph.nodes)) * SIDE * SIDE * 4
    assert not math.isnan(planned)
