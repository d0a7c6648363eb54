"""Constant input: a switch within a model that follows the phase is missed when it does not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of, seen
from tests.check.stories import EVAL, TRAIN, Told, checked, learned, said
from torch import nn
from torch.nn import functional

from remora.check.calls import MODEL_FORWARD


def forward(given: Any, context: Any = TRAIN, failed: bool = False) -> Told:
    inner = Told("f", inputs={"x": given}, context=context, failed=failed)
    return Told(MODEL_FORWARD, [Told("layer", [inner], context=context)], context=context)


def test_a_switch_that_follows_the_phase_is_missed_when_it_does_not() -> None:
    invariants = learned([[forward(True), forward(False, EVAL)]] * 3)

    assert said(invariants, "constant input") == {
        "x of f within a model is True when phase is 'train' and grad is True",
        "x of f within a model is False when phase is 'eval' and grad is False",
    }
    [found] = checked(invariants, [[forward(True, EVAL)]])
    assert found.seen == "x is True"
    assert checked(invariants, [[forward(False, EVAL), forward(True)]]) == []


@pytest.mark.parametrize("value", [False, None, "mean"])
def test_what_is_always_the_same_is_a_choice_of_the_program(value: Any) -> None:
    assert said(learned([[forward(value), forward(value, EVAL)]] * 3), "constant input") == set()
    assert said(learned([[forward(value)]] * 3), "constant input") == set()


def test_outside_of_a_model_a_switch_may_be_anything() -> None:
    around = [[Told("f", inputs={"x": "mean"}), Told("f", inputs={"x": "sum"}, context=EVAL)]] * 3
    within = learned([[forward("mean"), forward("sum", EVAL)]] * 3)

    assert said(learned(around), "constant input") == set()
    assert len(of("constant input", within)) == 2
    assert checked(within, [[Told("f", inputs={"x": "none"})]]) == []


def test_of_numbers_only_zero_is_a_switch() -> None:
    found = said(learned([[forward(0.1), forward(0.0, EVAL)]] * 3), "constant input")

    assert found == {"x of f within a model is 0.0 when phase is 'eval' and grad is False"}
    assert said(learned([[forward(3), forward(4, EVAL)]] * 3), "constant input") == set()


def test_false_is_not_zero() -> None:
    invariants = learned([[forward(0.1), forward(0.0, EVAL)]] * 3)

    assert len(checked(invariants, [[forward(False, EVAL)]])) == 1


def test_a_call_that_raised_says_nothing() -> None:
    invariants = learned([[forward(True), forward(False, EVAL), forward(False, failed=True)]] * 3)

    assert len(of("constant input", invariants)) == 2
    assert checked(invariants, [[forward(True, EVAL, failed=True)]]) == []


@pytest.mark.slow
def test_dropout_that_goes_on_in_evaluation_is_found() -> None:
    invariants = learned_from(partial(train_and_evaluate, False))

    assert found_in(partial(train_and_evaluate, False, seed=1, batch=5), invariants) == []
    findings = found_in(partial(train_and_evaluate, True), invariants)
    assert (
        "training of torch.nn.functional.dropout within a model is False: training is True"
        in seen(findings)
    )


class Net(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.linear, self.always = nn.Linear(4, 3), always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = functional.dropout(x, 0.5, training=self.training or self.always)
        output: torch.Tensor = self.linear(dropped)
        return output


def train_and_evaluate(always: bool, seed: int = 0, batch: int = 8) -> None:
    torch.manual_seed(seed)
    model = Net(always)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.train()
        for _ in range(3):
            optimizer.zero_grad()
            loss = functional.mse_loss(model(torch.randn(batch, 4)), torch.randn(batch, 3))
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for _ in range(3):
                output = model(torch.randn(batch, 4))
                functional.mse_loss(output, torch.randn(batch, 3), reduction="sum")
