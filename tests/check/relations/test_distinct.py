"""Distinct: the same memory is not filled twice in one step."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of, seen
from tests.check.stories import TRAIN, Told, checked, learned, said
from torch import nn

from remora.check.invariants import Invariant
from remora.check.relations.distinct import Distinct

START = {**TRAIN, "phase": "start"}


def fill(memory: int | None, std: float = 0.1, function: str = "normal_", **more: Any) -> Told:
    told = {"x.dtype": "torch.float32", "x.identity": (memory,)} if memory is not None else {}
    context = more.pop("context", START)
    return Told(function, inputs={**told, "std": std, **more}, context=context)


HEALTHY = [[fill(1), fill(2), fill(2, 0.2), fill(3)]] * 2


def test_memory_that_is_filled_twice_is_found() -> None:
    invariants = learned(HEALTHY)

    assert said(invariants, "distinct") == {
        "no two calls of normal_ in a step have the same inputs when phase is 'start'"
    }
    [found] = checked(invariants, [[fill(1), fill(2), fill(1)]])
    assert found.seen == "given the same as in an earlier call of this step"
    assert checked(invariants, [[fill(1), fill(1, 0.2)], [fill(1)]]) == []


def test_what_another_thread_filled_counts() -> None:
    again = Told("normal_", inputs=fill(1).inputs, context=START, thread=2)

    assert len(checked(learned(HEALTHY), [[fill(1), again]])) == 1


def test_it_is_said_only_of_the_phase_in_which_it_was_seen() -> None:
    assert checked(learned(HEALTHY), [[fill(1, context=TRAIN), fill(1, context=TRAIN)]]) == []


def test_what_was_filled_twice_in_good_health_is_not_said() -> None:
    assert said(learned([*HEALTHY, [fill(1), fill(1)]]), "distinct") == set()
    assert said(learned([[fill(one)] for one in range(9)]), "distinct") == set()  # one a step


@pytest.mark.parametrize(
    "function", ["relu", "zeros_", "torch.nn.init.constant_", "requires_grad_", "__call__"]
)
def test_what_may_be_done_twice_is_not_said(function: str) -> None:
    steps = [[fill(one, function=function) for one in range(4)]] * 3

    assert said(learned(steps), "distinct") == set()


def test_what_cannot_be_told_apart_is_not_judged() -> None:
    unknown: dict[str, Any] = {"list.0.identity": (1,), "list.length": 9}
    steps = [[fill(one, **unknown) for one in range(4)]] * 3

    assert said(learned(steps), "distinct") == set()
    assert checked(learned(HEALTHY), [[fill(None, **unknown), fill(None, **unknown)]]) == []


def test_a_call_that_raised_filled_nothing() -> None:
    raised = Told("normal_", inputs=fill(1).inputs, context=START, failed=True)

    assert checked(learned(HEALTHY), [[raised, fill(1), raised]]) == []
    assert said(learned([[*HEALTHY[0], raised]] * 2), "distinct")


def test_only_the_parameters_named_are_compared() -> None:
    one = Invariant(claim=Distinct("f", ("x",)))

    def step(y: int) -> Told:
        return Told("f", inputs={"x": 1, "y": y})

    assert len(checked([one], [[step(1), step(2)]])) == 1
    assert checked([Invariant(claim=Distinct("f"))], [[step(1), step(2)]]) == []


def test_a_model_that_initialises_its_weights_twice_is_found_in_the_first_step() -> None:
    invariants = learned_from(partial(initialise_and_train, times=1))

    assert found_in(partial(initialise_and_train, times=1, seed=1), invariants) == []
    findings = [
        one
        for one in found_in(partial(initialise_and_train, times=2), invariants)
        if one.invariant in of("distinct", invariants)
    ]
    assert {one.step for one in findings} == {0}
    assert len(findings) >= 3
    assert "torch.Tensor.normal_" in " ".join(seen(findings))


def test_memory_that_was_freed_and_taken_again_is_other_memory() -> None:
    def program(size: int = 64) -> None:
        for _ in range(200):  # one address, most times
            torch.empty(size).normal_()

    invariants = learned_from(program)

    assert len(of("distinct", invariants)) == 1
    assert found_in(program, invariants) == []


def initialise_and_train(times: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)])
    for _ in range(times):
        for layer in model:
            assert isinstance(layer, nn.Linear)
            layer.weight.data.normal_(mean=0.0, std=0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
