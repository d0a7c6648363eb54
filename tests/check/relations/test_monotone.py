"""Monotone: counters that grow, by how much, and what is found where one does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.check.stories import EVAL, Told, checked, learned, said
from tests.check.training import Program, check, learn, ride, words
from torch import nn

from remora.check.calls import MODEL_FORWARD
from remora.check.checker import Checker, Finding
from remora.check.measures import SCHEDULER_STEP

STEPS, BREAKS = 8, 5
RELATION = ["monotone"]


def run(growth: Sequence[float]) -> list[list[Told]]:
    return [[Told(SCHEDULER_STEP, numbers={"last_epoch": one})] for one in growth]


def test_the_same_amount_each_time() -> None:
    invariants = learned(run([1, 1, 1, 1]))

    assert said(invariants, "monotone") == {f"{SCHEDULER_STEP} adds 1 to last_epoch"}
    found = checked(invariants, run([1, 2, 0, -5]))
    assert [(one.step, one.seen) for one in found] == [
        (1, "it grew by 2"), (2, "it grew by 0"), (3, "it grew by -5"),
    ]  # fmt: skip


def test_any_amount_but_none_below_zero() -> None:
    invariants = learned(run([1, 0, 2, 5]))

    assert said(invariants, "monotone") == {f"{SCHEDULER_STEP} never lessens last_epoch"}
    assert [one.step for one in checked(invariants, run([0, 9, -1]))] == [2]


def test_what_stays_or_falls_is_no_counter() -> None:
    assert said(learned(run([1, 2, -1, 1])), "monotone") == set()
    assert said(learned(run([1, 2])), "monotone") == set()


def test_an_amount_for_each_phase() -> None:
    def forward(by: float, **told: Any) -> list[Told]:
        return [Told(MODEL_FORWARD, numbers={"num_batches_tracked": by}, **told)]

    invariants = learned([forward(1), forward(0, context=EVAL)] * 4)

    assert said(invariants, "monotone") == {
        f"{MODEL_FORWARD} adds 1 to num_batches_tracked when phase is 'train' and grad is True",
        f"{MODEL_FORWARD} adds 0 to num_batches_tracked when phase is 'eval' and grad is False",
    }


# ---------------------------------------------------------------- of real training

Disturb = Callable[[nn.Module, torch.optim.Optimizer, int], object]


def training(disturb: Disturb = lambda net, optimizer, step: None) -> Program:
    def program() -> None:
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(net.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
        for step in range(STEPS):
            disturb(net, optimizer, step)
            optimizer.zero_grad()
            net(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
            scheduler.step()

    return program


def at_the_break(change: Callable[[Any, Any], object]) -> Disturb:
    return lambda net, optimizer, step: change(net, optimizer) if step == BREAKS else None


def test_the_counters_of_a_training() -> None:
    invariants = learn(training(), relations=RELATION)

    assert words(invariants) == {
        "Optimizer.step adds 1 to step",
        "Module.forward adds 1 to num_batches_tracked",
        "LRScheduler.step adds 1 to last_epoch",
    }
    assert check(invariants, training()) == []


def test_a_state_that_is_lost_is_found_at_the_next_step() -> None:
    lost = at_the_break(lambda net, optimizer: optimizer.state.clear())
    [one] = check(learn(training(), relations=RELATION), training(lost))

    assert (one.step, one.seen) == (BREAKS, "it grew by -4")


@pytest.mark.slow
def test_an_optimizer_made_anew_counts_from_the_start() -> None:
    def twice() -> None:
        training()()
        training()()

    assert check(learn(training(), relations=RELATION), twice) == []


def test_batch_statistics_that_are_no_longer_kept() -> None:
    def stop(net: Any, optimizer: Any) -> None:
        net[1].num_batches_tracked.fill_(-100)

    [one] = check(learn(training(), relations=RELATION), training(at_the_break(stop)))
    assert (one.step, one.seen) == (BREAKS, f"it grew by {-100 + 1 - BREAKS}")


def test_where_steps_go_by_unseen_the_growth_within_a_call_counts() -> None:
    findings: list[Finding] = []
    checker = Checker(learn(training(), relations=RELATION), findings.append)
    ride(checker, training(), every=3)

    assert findings == []
    assert {rule.triggered for rule in checker.rules} == {3}
