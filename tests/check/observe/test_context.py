"""Where in a run a call is made: when the warm-up is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from remora.check.conditions import Condition, Within
from remora.check.observe.context import WARM_UP_STEPS, Context

Schedule = Callable[[int], float]


def warm_ups(schedule: Schedule, steps: int = 12) -> list[bool]:
    """Whether each step is one of the warm-up, its learning rate being what ``schedule`` gives."""
    context = Context()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    found = []
    for step in range(steps):
        found.append(context.now()["warm_up"])
        optimizer.param_groups[0]["lr"] = schedule(step)
        context.step_ended(step + 1, optimizer)
    return found


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (lambda step: 0.1, WARM_UP_STEPS),
        (lambda step: 0.1 * 0.9**step, WARM_UP_STEPS),
        (lambda step: 0.1 * min(step + 1, 7), 8),
        (lambda step: 0.1 * min(step + 1, 7) if step < 9 else step, 8),
        (lambda step: 0.1 * (step + 1), 12),
    ],
    ids=["constant", "falling", "rising for a while", "rising again", "always rising"],
)
def test_it_lasts_three_steps_and_while_the_learning_rate_rises(
    schedule: Schedule, steps: int
) -> None:
    assert warm_ups(schedule) == [step < steps for step in range(12)]


def test_rates_of_several_groups_and_as_tensors() -> None:
    context = Context()
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = torch.optim.Adam(groups)
    for step in range(WARM_UP_STEPS):
        assert context.warm_up
        optimizer.param_groups[1]["lr"] = torch.tensor(0.1 * (step + 1))
        context.step_ended(step + 1, optimizer)
    assert context.warm_up
    context.step_ended(WARM_UP_STEPS + 1, optimizer)
    assert not context.warm_up


@pytest.mark.parametrize(
    ("enter", "manager"),
    [
        (torch.inference_mode, "torch.inference_mode"),
        (torch.autograd.detect_anomaly, "torch.autograd.detect_anomaly"),
        (torch.profiler.profile, "torch.profiler.profile"),
    ],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_context_managers_that_a_call_lies_in(enter: Callable[[], Any], manager: str) -> None:
    context = Context()
    inside = Condition(((Within(manager),),))

    assert not inside.holds([context.now()])
    with enter():
        assert inside.holds([context.now()])
        assert [name for name in context.now() if name.startswith("context.")] == [
            f"context.{manager}"
        ]
    assert not inside.holds([context.now()])
