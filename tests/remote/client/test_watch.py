"""Changes of a module's weights are seen, whichever way they come, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from remora.remote.client.watch import Watch


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 2)))


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
