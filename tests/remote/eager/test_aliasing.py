"""Views, and writing through them: a machine that does the same here and there, in any order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
    run_state_machine_as_test,
)
from torch import nn

from remora.remote.eager.device import Device

Pair = tuple[torch.Tensor, torch.Tensor]
"""A tensor here and its like there."""

VIEWS: dict[str, Any] = {
    "row": lambda x: x[x.shape[0] // 2] if x.dim() and x.shape[0] else x,
    "rows": lambda x: x[1:] if x.dim() else x,
    "every second": lambda x: x[::2] if x.dim() else x,
    "turned": lambda x: x.transpose(0, -1) if x.dim() > 1 else x,
    "flat": lambda x: x.reshape(-1),
    "one more": lambda x: x.unsqueeze(0) if x.dim() < 4 else x,
    "wider": lambda x: x.expand(2, *x.shape) if x.dim() < 3 else x,
    "diagonal": lambda x: x.diagonal() if x.dim() > 1 else x,
    "bits": lambda x: x.view(torch.int32).view(torch.float32),
    "detached": lambda x: x.detach(),
    "whole": lambda x: x.view_as(x),
}
WRITES: dict[str, Any] = {
    "add": lambda x, y: x.add_(y),
    "scale": lambda x, y: x.mul_(0.5),
    "zero": lambda x, y: x.zero_(),
    "fill": lambda x, y: x.fill_(3),
    "copy": lambda x, y: x.copy_(y),
    "clamp": lambda x, y: x.clamp_(-1, 1),
    "first": lambda x, y: x[:1].add_(1) if x.dim() else x.add_(1),
    "shifted": lambda x, y: x[1:].copy_(x[:-1]) if x.dim() and x.shape[0] else x.add_(1),
    "by mask": lambda x, y: x.masked_fill_(x > 1, 0),
    "by index": lambda x, y: x.index_fill_(0, _first(x), 2) if x.dim() and x.shape[0] else x,
}
READS: dict[str, Any] = {
    "sum": lambda x, y: x.sum(0) if x.dim() else x + 0,
    "copy": lambda x, y: x.clone(),
    "rows": lambda x, y: x.contiguous(),
    "both": lambda x, y: x + y,
    "joined": lambda x, y: torch.cat([x, x]) if x.dim() else x * 2,
    "single": lambda x, y: x.double().float(),
}


def _first(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, dtype=torch.int64, device=x.device)


class Machine(RuleBasedStateMachine):
    """Two worlds that must stay the same."""

    device: Device
    pairs = Bundle("pairs")

    @rule(target=pairs, sizes=st.lists(st.integers(0, 4), max_size=3), seed=st.integers(0, 99))
    def make(self, sizes: list[int], seed: int) -> Pair:
        here = torch.randn(sizes, generator=torch.Generator().manual_seed(seed))
        return here, here.to(self.device)

    @rule(target=pairs, sizes=st.lists(st.integers(0, 3), max_size=2))
    def make_there(self, sizes: list[int]) -> Pair:
        return torch.zeros(sizes), torch.empty(sizes, device=self.device)

    @rule(target=pairs, pair=pairs, name=st.sampled_from(sorted(VIEWS)))
    def look(self, pair: Pair, name: str) -> Pair:
        here, there = (VIEWS[name](each) for each in pair)
        assert here.shape == there.shape
        assert (here.untyped_storage()._cdata == pair[0].untyped_storage()._cdata) == (
            there.untyped_storage()._cdata == pair[1].untyped_storage()._cdata
        )
        return here, there

    @rule(pair=pairs, other=pairs, name=st.sampled_from(sorted(WRITES)))
    def write(self, pair: Pair, other: Pair, name: str) -> None:
        failed = []
        for x, y in zip(pair, other, strict=True):
            try:
                WRITES[name](x, y)
                failed.append(False)
            except RuntimeError:  # shapes that do not go together, elements that share a place
                failed.append(True)
        assert failed[0] == failed[1]

    @rule(target=pairs, pair=pairs, other=pairs, name=st.sampled_from(sorted(READS)))
    def read(self, pair: Pair, other: Pair, name: str) -> Pair:
        made = []
        for x, y in zip(pair, other, strict=True):
            try:
                made.append(READS[name](x, y))
            except RuntimeError:
                made.append(None)
        assert (made[0] is None) == (made[1] is None)
        return pair if made[0] is None else (made[0], made[1])

    @rule(pair=consumes(pairs))
    def drop(self, pair: Pair) -> None:
        del pair

    @rule(pair=pairs)
    def compare(self, pair: Pair) -> None:
        here, there = pair
        assert torch.equal(there.cpu(), here)


@pytest.mark.filterwarnings("ignore:Use of (index|masked)_fill_ on expanded tensors")
def test_what_is_written_is_seen_through_every_view(device: Device) -> None:
    class OnDevice(Machine):
        pass

    OnDevice.device = device
    run_state_machine_as_test(
        OnDevice,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory_that_nobody_filled_comes_before_what_reads_it(device: Device) -> None:
    x = torch.ones(3).to(device)
    x.sum().item()
    assert (x + torch.empty((), device=device)).tolist() == [1, 1, 1]


def test_writing_to_elements_that_share_memory_is_the_error_it_is_here(device: Device) -> None:
    for where in ("cpu", device):
        x = torch.arange(4.0, device=where)
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            x[:1].expand(3).mul_(2)
        with pytest.raises(RuntimeError, match="some elements of the input tensor and the written"):
            x[1:].add_(x[:-1])
        x[:1].expand(3).fill_(7)
        assert x.tolist() == [7, 1, 2, 3]


def test_a_tensor_seen_as_another_dtype_is_the_same_memory(device: Device) -> None:
    x = torch.tensor([1.0, 2.0]).to(device)
    x.view(torch.int32).zero_()
    assert x.tolist() == [0, 0]


def test_a_parameter_that_is_given_other_data(device: Device) -> None:
    parameter = nn.Parameter(torch.zeros(2).to(device))
    parameter.data = torch.ones(3, device=device)
    parameter.data.add_(1)
    assert parameter.tolist() == [2, 2, 2]


def test_memory_lives_as_long_as_a_view_of_it(device: Device) -> None:
    x = torch.arange(6, device=device)
    view = x[2:4]
    del x
    device.synchronize()
    view.add_(1)
    assert view.tolist() == [3, 4]


@pytest.mark.slow
@pytest.mark.gradients
def test_gradients_flow_through_views(device: Device) -> None:
    grads = []
    for where in ("cpu", device):
        x = torch.arange(12.0, device=where).reshape(3, 4).requires_grad_()
        y = x * 2
        y[1:, ::2].mul_(3)
        (y.T.reshape(-1)[:5].sum() + y.diagonal().prod()).backward()
        grads.append(x.grad.cpu())  # type: ignore[union-attr]
    assert torch.equal(*grads)
