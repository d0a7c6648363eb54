"""Stubs: everything about an output but its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from remora.checkpoint.ride.stubs import Stubs
from remora.core.errors import ReplayDiverged


@dataclass
class Out:
    loss: torch.Tensor
    count: int


class Net(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.make = make
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return self.make(self.linear(x))


MAKERS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda out: out,
    "tuple": lambda out: (out, out.detach(), out.argmax(1)),
    "nested": lambda out: {"logits": out, "hidden": [out.sum(), None]},
    "dataclass": lambda out: Out(out.mean(), 3),
}


@pytest.fixture
def stubs() -> Iterator[Stubs]:
    stubs = Stubs(nn.Module.__call__)
    yield stubs
    stubs.close()


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Out):
        return [value.loss]
    parts = value.values() if isinstance(value, dict) else value
    return [each for part in parts if part is not None for each in tensors(part)]


def shapes(value: Any) -> list[Any]:
    return [(each.shape, each.dtype, each.requires_grad) for each in tensors(value)]


@pytest.mark.parametrize("kind", list(MAKERS))
def test_an_output_is_like_the_real_one(stubs: Stubs, kind: str) -> None:
    net = Net(MAKERS[kind])
    real = net(torch.ones(4, 3))
    first, second = (stubs.answer(net, (torch.ones(4, 3),), {}) for _ in range(2))

    assert net.calls == 2
    assert type(first) is type(second) is type(real)
    assert shapes(first) == shapes(second) == shapes(real)


def test_each_signature_is_computed_once(stubs: Stubs) -> None:
    net = Net(MAKERS["tensor"])
    for batch in (4, 4, 2, 4, 2):
        assert stubs.answer(net, (torch.ones(batch, 3),), {}).shape == (batch, 2)
    net.eval()
    with torch.no_grad():
        assert not stubs.answer(net, (torch.ones(4, 3),), {}).requires_grad

    assert net.calls == stubs.computed == 3


def test_backward_gives_every_parameter_a_gradient_of_zeros(stubs: Stubs) -> None:
    net = Net(MAKERS["tensor"])
    stubs.answer(net, (torch.ones(4, 3),), {}).pow(2).sum().backward()

    assert [each.grad.abs().sum() for each in net.parameters() if each.grad is not None] == [0, 0]
    stubs.close()
    assert all(each.grad is None for each in net.parameters())


def test_a_judge_leads_backward_to_its_maker(stubs: Stubs) -> None:
    maker, judge = Net(MAKERS["tensor"]), nn.Linear(2, 1)
    fake = stubs.answer(maker, (torch.ones(4, 3),), {})
    stubs.answer(judge, (fake,), {}).sum().backward()

    assert maker.linear.weight.grad is not None


def test_writing_to_an_output_is_allowed_and_reaches_no_later_one(stubs: Stubs) -> None:
    net = Net(MAKERS["tensor"])
    first = stubs.answer(net, (torch.ones(4, 3),), {})
    first.mul_(0).sum().backward()
    second = stubs.answer(net, (torch.ones(4, 3),), {})
    third = stubs.answer(net, (torch.ones(4, 3),), {})
    second.fill_(7)

    assert not (third == 7).any()


def test_learning_draws_no_random_numbers(stubs: Stubs) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stubs.answer(nn.Dropout(0.5), (torch.ones(100),), {})

    assert torch.equal(torch.get_rng_state(), before)


def test_an_output_kept_beyond_the_replay_is_no_silent_error(stubs: Stubs) -> None:
    kept = stubs.answer(Net(MAKERS["tensor"]), (torch.ones(4, 3),), {})
    stubs.close()

    with pytest.raises(ReplayDiverged, match="within an iteration"):
        kept.sum().backward()
