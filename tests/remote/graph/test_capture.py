"""From a module to a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tests.remote.graph.made import CPU, sent
from torch.utils import _pytree as pytree

from remora.core.errors import CannotCapture
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.nodes import Graph
from remora.remote.graph.program import Program


class Computing(torch.nn.Module):
    """A module without weights."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.compute(*tensors)


def captured_of(compute: Callable[..., Any], *tensors: torch.Tensor) -> Captured:
    return capture(Computing(compute), tensors)


def outputs_of(captured: Captured, *tensors: torch.Tensor) -> Any:
    found = Program(sent(captured.graph), captured.tensors, CPU).run(tensors)
    return pytree.tree_unflatten(found, captured.outputs)


def operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def test_an_operator_that_gives_several_values_fills_a_slot_for_each_that_is_read() -> None:
    captured = captured_of(lambda x: x.topk(2).indices, torch.randn(3, 5))
    (node,) = captured.graph.nodes
    assert node.unpacks
    assert node.outputs[0] is None
    x = torch.randn(4, 5)
    assert torch.equal(outputs_of(captured, x), x.topk(2).indices)


def test_a_list_of_values_is_joined() -> None:
    captured = captured_of(lambda x, y: torch.cat([x, y, x], 1), torch.ones(2, 3), torch.ones(2, 4))
    x, y = torch.randn(5, 3), torch.randn(5, 4)
    assert torch.equal(outputs_of(captured, x, y), torch.cat([x, y, x], 1))


def test_sizes_are_numbers_of_the_call_that_is_run() -> None:
    captured = captured_of(
        lambda x: x.reshape(x.shape[0] * 3, 2) / (x.shape[0] + 1), torch.ones(2, 6)
    )
    assert any(name.startswith("number.") for name in operators(captured.graph))
    x = torch.randn(7, 6)
    assert torch.equal(outputs_of(captured, x), x.reshape(21, 2) / 8)


def test_outputs_are_put_together_as_the_module_gives_them() -> None:
    captured = captured_of(
        lambda x: {"twice": x + x, "more": [None, 3, (x,), "text"]}, torch.ones(2)
    )
    x = torch.randn(4)
    found = outputs_of(captured, x)
    assert torch.equal(found["twice"], x + x)
    assert found["more"][:2] == [None, 3]
    assert torch.equal(found["more"][2][0], x)
    assert found["more"][3] == "text"


class WithConstants(torch.nn.Module):
    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.arange(5.0)  # no buffer
        self.register_buffer("offset", torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table + self.offset + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_constants_are_weights() -> None:
    module = WithConstants()
    captured = capture(module, [torch.ones(2, 5)])
    assert len(captured.graph.weights) == 3
    assert "offset" in [weight.name for weight in captured.graph.weights]
    x = torch.randn(3, 5)
    assert torch.equal(outputs_of(captured, x), module(x))


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.unused = torch.nn.Linear(4, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.unused(self.embedding(ids))
        logits: torch.Tensor = self.head(self.embedding(ids))
        return logits


def test_tied_weights_are_sent_once_and_unused_ones_not_at_all() -> None:
    module = Tied().eval()
    captured = capture(module, [torch.zeros(2, 3, dtype=torch.int64)])
    assert len(captured.tensors) == 1
    assert {weight.digest for weight in captured.graph.weights} == set(captured.tensors)
    ids = torch.tensor([[1, 9]])
    assert torch.equal(outputs_of(captured, ids), module(ids))


def test_what_nobody_reads_is_dropped() -> None:
    captured = captured_of(lambda x: (x.exp().sum(), x + 1)[1], torch.ones(2))
    assert operators(captured.graph) == ["aten.add.Tensor"]
    assert len(captured.lines) == 1


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: torch.dropout(x + 1, 0.5, False),
        lambda x: (x + 1).float().contiguous().to("cpu"),
        lambda x: (x + 1).clone().detach(),
        lambda x: (x + 1)[:],
    ],
)
def test_what_gives_its_own_argument_is_no_node(compute: Callable[..., torch.Tensor]) -> None:
    captured = captured_of(compute, torch.ones(2, 3))
    assert operators(captured.graph) == ["aten.add.Tensor"]
    x = torch.randn(4, 3)
    assert torch.equal(outputs_of(captured, x), compute(x))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.expand(4, 2, 3).clone().view(24),
        lambda x: x.t().contiguous().view(6),
        lambda x: x.double().to(torch.float16),
        lambda x: x[1:],
    ],
)
def test_what_lies_otherwise_than_its_argument_is_one(
    compute: Callable[..., torch.Tensor],
) -> None:
    x = torch.randn(2, 3)
    captured = capture(Computing(compute), [x], dims=[None])
    found = outputs_of(captured, x)
    assert found.dtype is compute(x).dtype
    assert torch.equal(found, compute(x))


def test_a_model_that_writes_into_its_own_values_is_captured_without_that() -> None:
    def compute(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y[:, 0] = 7
        return y.add_(1)

    captured = captured_of(compute, torch.ones(2, 3))
    x = torch.randn(4, 3)
    assert torch.equal(outputs_of(captured, x), compute(x))


def test_a_size_that_the_model_fixes_is_fixed_also_where_it_is_traced_twice() -> None:
    def compute(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y[:, 0] = 7  # in place: what is traced first cannot be sent
        total = y[:, 0]
        for index in range(x.shape[1]):
            total = total + y[:, index]
        return total

    captured = captured_of(compute, torch.ones(2, 3, dtype=torch.int64))
    assert captured.graph.inputs[0].dims == (-1, 3)


def test_what_only_one_reads_may_be_written_over_and_is_traced_once() -> None:
    captured = captured_of(lambda x: (x + 1).relu_().add_(2).mul_(x), torch.ones(2, 3))
    assert operators(captured.graph) == [
        "aten.add.Tensor", "aten.relu.default", "aten.add.Tensor", "aten.mul.Tensor",
    ]  # fmt: skip
    x = torch.randn(4, 3)
    assert torch.equal(outputs_of(captured, x), ((x + 1).relu() + 2) * x)


def _also_read(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    return y.relu_() + y


def _a_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    y.view(-1).relu_()
    return y


def _of_another_dtype(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).int().add_(x.short())


@pytest.mark.parametrize("compute", [_also_read, _a_view, _of_another_dtype])
def test_what_others_see_is_written_as_they_see_it(
    compute: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    captured = captured_of(compute, torch.ones(2, 3))
    x = torch.randn(4, 3)
    found = outputs_of(captured, x)
    assert found.dtype is compute(x).dtype
    assert torch.equal(found, compute(x))


class Counting(torch.nn.Module):
    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x + self.seen


def test_a_model_that_changes_a_buffer_is_refused_by_its_name() -> None:
    module = Counting()
    with pytest.raises(CannotCapture, match="changes seen when it is called; call eval"):
        capture(module, [torch.ones(2)])
    assert module.seen.item() == 0


def test_batch_norm_in_training_is_refused_and_in_evaluation_is_not() -> None:
    module = torch.nn.BatchNorm1d(3)
    with pytest.raises(CannotCapture, match="running_mean"):
        capture(module, [torch.randn(4, 3)])
    captured = capture(module.eval(), [torch.randn(4, 3)])
    x = torch.randn(2, 3)
    assert torch.equal(outputs_of(captured, x), module(x))


class Noisy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)  # this line


def test_an_operator_that_is_not_allowed_is_named_with_the_line_that_calls_it() -> None:
    source = Path(__file__).read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(source) if text.endswith("# this line"))
    words = f"operator aten.randn_like.default cannot be sent, at {__file__}:{line} in forward"
    with pytest.raises(CannotCapture, match=words):
        captured_of(Noisy(), torch.ones(2))


def test_every_node_has_the_line_that_it_comes_from() -> None:
    captured = captured_of(lambda x: torch.relu(x), torch.ones(2))
    assert captured.lines[0].startswith(__file__)


def test_a_branch_on_a_value_is_refused_with_words() -> None:
    with pytest.raises(CannotCapture, match="Computing cannot be captured: "):
        captured_of(lambda x: x + 1 if x.sum() > 0 else x, torch.ones(2))


def test_a_model_that_raises_is_refused_with_what_it_said() -> None:
    def raises(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("mine")

    with pytest.raises(CannotCapture, match="KeyError: 'mine'"):
        captured_of(raises, torch.ones(2))


def test_a_number_that_is_given_is_a_constant_of_the_graph() -> None:
    captured = capture(Computing(lambda x, by: x * by), [torch.ones(2), 3])
    assert len(captured.graph.inputs) == 1
    assert torch.equal(outputs_of(captured, torch.ones(5)), torch.full((5,), 3.0))


def test_the_model_is_as_before() -> None:
    module = Tied().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    keys = set(module.__dict__)
    capture(module, [torch.zeros(2, 3, dtype=torch.int64)])
    assert set(module.__dict__) == keys
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_a_graph_is_the_same_behind_the_wire() -> None:
    captured = captured_of(lambda x: x.reshape(x.shape[0], -1).softmax(-1), torch.ones(2, 3, 4))
    assert sent(captured.graph) == captured.graph
    assert msgspec.msgpack.encode(sent(captured.graph)) == msgspec.msgpack.encode(captured.graph)
