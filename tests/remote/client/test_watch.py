"""Changes of a module's weights are seen, whichever way they come, and nothing else is."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks as hooks

from remora.remote.client import stepped
from remora.remote.client.watch import Watch


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 2)))


def step(model: nn.Module, kind: Any, **options: Any) -> None:
    optimizer = kind(model.parameters(), **options)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight in place": lambda m: m[0].weight.requires_grad_(False).add_(1),
    "a buffer in place": lambda m: m[1].running_mean.add_(1),
    "a weight replaced": lambda m: setattr(m[0], "weight", nn.Parameter(torch.zeros(3, 3))),
    "a buffer replaced": lambda m: setattr(m[1], "running_mean", torch.zeros(3)),
    "a part replaced": lambda m: m[2].__setitem__(0, nn.Linear(3, 2)),
    "a part added": lambda m: m.append(nn.ReLU()),
    "a part removed": lambda m: m.__delitem__(2),
    "a weight removed": lambda m: setattr(m[0], "bias", None),
    "a weight added": lambda m: m[0].register_parameter("more", nn.Parameter(torch.zeros(1))),
    "weights written past torch": lambda m: m[0].weight.data.mul_(0.5),
    "weights written by NumPy": lambda m: m[0].weight.detach().numpy().__imul__(0.5),
    "a step of a fused optimizer": lambda m: step(m, torch.optim.AdamW, fused=True),
    "a step that moves no sample": lambda m: step(m, torch.optim.SGD, lr=0.0),
    "a state loaded": lambda m: m.load_state_dict(module().state_dict()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name: str) -> None:
    watched = module()
    watch = Watch(watched)
    assert not watch.sees_a_change()
    CHANGES[name](watched)
    assert watch.sees_a_change()
    assert not Watch(watched).sees_a_change()


def test_calling_it_changes_nothing() -> None:
    watched = module().eval()
    watch = Watch(watched)
    watched(torch.randn(2, 3)).sum().backward()
    assert not watch.sees_a_change()


def test_weights_of_inference_mode_have_no_versions() -> None:
    with torch.inference_mode():
        watched = module()
    watch = Watch(watched)
    assert not watch.sees_a_change()
    watched[0].weight = nn.Parameter(torch.zeros(3, 3))
    assert watch.sees_a_change()


def test_not_a_number_is_what_it_was() -> None:
    watched = module()
    watched[0].get_parameter("weight").data.fill_(torch.nan)
    assert not Watch(watched).sees_a_change()


def test_steps_of_other_models_are_nothing_to_it() -> None:
    watched, other = module(), module()
    watch = Watch(watched)
    step(other, torch.optim.SGD)
    assert not watch.sees_a_change()


def test_no_hook_is_left_when_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(stepped, "_listening", {})  # other tests' models may still be there
    monkeypatch.setattr(stepped, "_hook", None)
    before = len(hooks)
    watches = [Watch(module()), Watch(module())]
    assert len(hooks) == before + 1
    del watches[0]
    gc.collect()
    assert len(hooks) == before + 1
    watches.clear()
    gc.collect()
    assert len(hooks) == before


def test_weights_of_any_kind_and_layout() -> None:
    watched = nn.Module()
    for number, weight in enumerate(
        (
            torch.randn(3, 4).t(),
            torch.randn(1, 4).expand(3, 4),
            torch.zeros(0),
            torch.ones(2, dtype=torch.complex64),
            torch.ones(3, dtype=torch.bfloat16),
            torch.ones(2, 2).to_sparse(),
            torch.tensor(True),
            torch.empty(2, device="meta"),
        )
    ):
        watched.register_buffer(f"b{number}", weight)
    watch = Watch(watched)
    assert not watch.sees_a_change()
    watched.get_buffer("b0").data.add_(1)
    assert watch.sees_a_change()
