"""Branches of a graph at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.remote.graph.made import CPU, sent
from tests.remote.graph.test_plan import held_at_most
from tests.remote.graph.test_program import Perceptron

from remora.core.clock import ManualClock
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.plan import Planner
from remora.remote.graph.program import NodeFailed, Program
from remora.remote.graph.side_by_side import SideBySide, program_for
from remora.remote.graph.split import Split, split

WIDTH = 4


class Towers(torch.nn.Module):
    """Two inputs, each read by eight layers of its own, compared at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(8))
        self.other = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(8))
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scale = self.scale.exp()  # read by both branches, and made by neither
        for one, other in zip(self.one, self.other, strict=True):
            x, y = torch.tanh(one(x)) * scale, torch.relu(other(y)) + scale
        return (x @ y.t()).softmax(-1)


@pytest.fixture(scope="module")
def towers() -> tuple[torch.nn.Module, Captured, Split]:
    torch.manual_seed(0)
    module = Towers().eval()
    captured = capture(module, [torch.randn(2, WIDTH), torch.randn(3, WIDTH)])
    parts = split(sent(captured.graph))
    assert parts is not None
    return module, captured, parts


Setup = tuple[torch.nn.Module, Captured, Split]
INPUTS = [torch.randn(5, WIDTH), torch.randn(7, WIDTH)]


def side_by_side(towers: Setup, *, together: bool = True) -> SideBySide:
    program = SideBySide(towers[2], towers[1].tensors, CPU)
    program.together = together
    return program


def test_a_graph_is_cut_where_it_branches(towers: Setup) -> None:
    _, captured, parts = towers
    assert sorted(parts.order) == list(range(len(captured.graph.nodes)))
    assert len(parts.before) == 1
    assert [len(branch) for branch in parts.branches] == [24, 25]  # and the transpose
    places = [*parts.before, *parts.branches[0], *parts.branches[1], *parts.after]
    assert places == list(range(len(parts.order)))


def test_one_that_does_not_branch_is_not_cut() -> None:
    captured = capture(Perceptron().eval(), [torch.randn(2, 8)])
    assert split(captured.graph) is None
    assert type(program_for(captured.graph, captured.tensors, CPU)) is Program


@pytest.mark.parametrize("together", [True, False])
def test_it_gives_the_same_bit_for_bit(towers: Setup, together: bool) -> None:
    module, captured, _ = towers
    (found,) = side_by_side(towers, together=together).run(INPUTS)
    (expected,) = Program(captured.graph, captured.tensors, CPU).run(INPUTS)
    assert torch.equal(found, expected)
    assert torch.equal(found, module(*INPUTS))


class Turns:
    """Lets the steps of two threads go in the order that is drawn, and no other."""

    def __init__(self, program: SideBySide, parts: Split, order: Iterator[int]) -> None:
        self.changed, self.order = threading.Condition(), order
        self.left = [len(branch) for branch in parts.branches]
        self.log: list[int] = []
        self.turn = self.next()
        for number, branch in enumerate(parts.branches):
            for place in branch:
                program.steps[place] = self.waiting(program.steps[place], number)

    def next(self) -> int:
        if not all(self.left):
            return self.left.index(max(self.left))
        return next(self.order, 0)

    def waiting(self, step: Any, number: int) -> Any:
        def turn(values: Any) -> None:
            with self.changed:
                assert self.changed.wait_for(lambda: self.turn == number, 10)
                step(values)
                self.log.append(number)
                self.left[number] -= 1
                self.turn = self.next()
                self.changed.notify_all()

        return turn


@settings(max_examples=25, deadline=None)
@given(order=st.lists(st.integers(0, 1), max_size=48))
@example(order=[1] * 48)
@example(order=[0, 1] * 24)
def test_whichever_branch_is_ahead_it_gives_the_same(order: list[int]) -> None:
    towers = cached_towers()
    program = side_by_side(towers)
    turns = Turns(program, towers[2], iter(order))
    (found,) = program.run(INPUTS)
    assert torch.equal(found, towers[0](*INPUTS))
    assert len(turns.log) == 49


def cached_towers(made: list[Setup] = []) -> Setup:  # noqa: B006  for all examples
    if not made:
        module = Towers().eval()
        captured = capture(module, [torch.randn(2, WIDTH), torch.randn(3, WIDTH)])
        parts = split(captured.graph)
        assert parts is not None
        made.append((module, captured, parts))
    return made[0]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("shapes", "branch"),
    [(((2, 3), (2, WIDTH)), 0), (((2, WIDTH), (2, 3)), 1), (((2, 3), (2, 3)), 0)],
)
def test_an_error_in_a_branch_names_its_node_in_the_graph_as_it_came(
    towers: Setup, together: bool, shapes: tuple[tuple[int, ...], ...], branch: int
) -> None:
    _, captured, parts = towers
    inputs = [torch.randn(shape) for shape in shapes]
    with pytest.raises(NodeFailed, match=r"aten.linear.default\) failed") as info:
        side_by_side(towers, together=together).run(inputs)
    assert info.value.node == parts.order[parts.branches[branch].start]
    with pytest.raises(NodeFailed) as alone:
        Planner(captured.graph, 2**30).needs(shapes)
    assert alone.value.node == info.value.node


def test_the_faster_way_is_found_and_kept(towers: Setup) -> None:
    for alone_ns, together_ns in ((100, 60), (60, 100)):
        clock = ManualClock()
        program = SideBySide(towers[2], towers[1].tensors, CPU, clock)
        ways: list[bool] = []

        def timed(inputs: Any, together: bool, ways: list[bool] = ways) -> list[Any]:
            ways.append(together)
            clock.advance(together_ns if together else alone_ns)  # noqa: B023  used at once
            return []

        program._run = timed  # type: ignore[method-assign]
        for _ in range(12):
            program.run(INPUTS)
        assert ways[:10] == [False, True] * 5
        assert program.together is (together_ns < alone_ns)
        assert ways[10:] == [program.together] * 2


def test_it_takes_no_more_memory_than_is_planned(towers: Setup) -> None:
    graph = sent(towers[1].graph)
    planned = Planner(graph, 2**30).needs(tuple(tuple(x.shape) for x in INPUTS))
    inputs_bytes = sum(x.nbytes for x in INPUTS)
    alone = held_at_most(graph, INPUTS, towers[1].tensors)
    assert planned >= inputs_bytes + alone
    largest = 7 * WIDTH * 4
    assert planned <= inputs_bytes + 8 * largest
