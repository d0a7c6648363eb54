"""Constant output: what a result always is, said so that another program has to agree."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of, seen
from tests.check.stories import EVAL, TRAIN, Told, checked, learned, said
from torch import nn

from remora.check.relations.constant_output import ConstantOutput

AUTOCAST = {**TRAIN, "autocast": "torch.bfloat16"}
FLOAT, HALF = "torch.float32", "torch.bfloat16"


def call(given: str | None, returned: Any, context: Any = TRAIN, **inputs: Any) -> Told:
    dtype = {} if given is None else {"x.dtype": given}
    return Told("f", inputs={**dtype, **inputs}, outputs=returned, context=context)


def dtype(name: str) -> dict[str, str]:
    return {"result.dtype": name}


def test_a_dtype_under_autocast_is_missed_where_it_is_not_applied() -> None:
    healthy = [[call(FLOAT, dtype(HALF), AUTOCAST), call(FLOAT, dtype(FLOAT))]] * 3
    invariants = learned(healthy)

    assert said(invariants, "constant output") == {
        f"result.dtype of f is '{HALF}' when autocast is '{HALF}' and x.dtype is '{FLOAT}'"
    }
    [found] = checked(invariants, [[call(FLOAT, dtype(FLOAT), AUTOCAST)]])
    assert found.seen == f"result.dtype is '{FLOAT}'"


def test_an_autocast_that_was_always_on_is_part_of_the_condition() -> None:
    invariants = learned([[call(FLOAT, dtype(HALF), AUTOCAST)]] * 3)

    assert checked(of("constant output", invariants), [[call(FLOAT, dtype(FLOAT))]]) == []
    assert checked(invariants, [[call(FLOAT, dtype(FLOAT), AUTOCAST)]])


def test_a_dtype_that_an_input_has_is_not_said() -> None:
    assert said(learned([[call(FLOAT, dtype(FLOAT))]] * 3), "constant output") == set()


def test_a_dtype_of_what_is_given_no_tensor_is_said_only_if_autocast_asks_for_it() -> None:
    assert said(learned([[call(None, dtype(FLOAT))]] * 3), "constant output") == set()
    assert said(learned([[call(None, dtype(FLOAT), AUTOCAST)]] * 3), "constant output") == set()
    assert said(learned([[call(None, dtype(HALF), AUTOCAST)]] * 3), "constant output") == {
        f"result.dtype of f is '{HALF}' when autocast is '{HALF}'"
    }


def test_that_a_result_requires_gradients_is_said_of_where_it_was_seen() -> None:
    steps = [[call(None, {"result.requires_grad": True})]] * 3
    invariants = learned(steps)
    without = {"result.requires_grad": False}

    [found] = checked(invariants, [[call(None, without)]])
    assert found.seen == "result.requires_grad is False"
    assert checked(invariants, [[call(None, without, EVAL)]]) == []
    frozen = [[call(FLOAT, {"result.requires_grad": True, **dtype(FLOAT)})]] * 3
    assert said(learned(frozen), "constant output") == set()


@pytest.mark.parametrize(
    "outputs",
    [{"result": 3}, {"result": 0.5}, {"result": (1, 2)}, {"result": None}, {"result.ndim": 2},
     {"result.shape": (2,)}, {"result.length": 2}, {"result.kind": "dict"},
     {"result.training": True}, {"result.identity": (1,)}, {"result.requires_grad": False}],
)  # fmt: skip
def test_what_varies_with_the_batch_the_seed_or_the_program_is_not_learned(outputs: Any) -> None:
    assert said(learned([[call(None, outputs)]] * 5), "constant output") == set()


def test_a_truth_value_is_said_with_the_switches_it_was_seen_with() -> None:
    invariants = learned([[call(None, {"result": True}, strict=True)]] * 3)

    assert said(invariants, "constant output") == {"result of f is True when strict is True"}
    assert checked(invariants, [[call(None, {"result": False}, strict=False)]]) == []
    assert checked(invariants, [[call(None, {}, strict=True)]]) == []  # not judged
    assert len(checked(invariants, [[call(None, {"result": 1}, strict=True)]])) == 1


def test_none_is_said_of_what_also_returns_something() -> None:
    steps = [[call(None, {"result": None}, EVAL), call(None, {"result": "text"})]] * 3

    assert "result of f is None when phase is 'eval' and grad is False" in said(
        learned(steps), "constant output"
    )


def test_a_call_that_raised_says_nothing() -> None:
    raised = Told("f", outputs={"result": False}, failed=True)
    healthy = [[call(None, {"result": True}), raised]] * 3

    assert said(learned(healthy), "constant output") == {"result of f is True"}
    assert checked(learned(healthy), [[raised]]) == []


@pytest.mark.slow
def test_autocast_that_does_not_reach_the_model_is_found_in_the_first_step() -> None:
    invariants = learned_from(partial(mixed_precision, nn.Linear))

    assert found_in(partial(mixed_precision, nn.Linear, seed=1, batch=5), invariants) == []
    findings = found_in(partial(mixed_precision, FullPrecision), invariants)
    assert {one.step for one in findings if one.step == 0}
    assert (
        "result.dtype of torch.nn.Module.forward is 'torch.bfloat16': result.dtype is "
        "'torch.float32'" in seen(findings)
    )


class FullPrecision(nn.Linear):
    """Turns autocast off for itself, as a compiled replacement does that knows none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)


def mixed_precision(layer: Any, seed: int = 0, batch: int = 8) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(layer(4, 4), nn.ReLU(), layer(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            target = torch.randint(3, (batch,))
            loss = nn.functional.cross_entropy(model(torch.randn(batch, 4)), target)
        loss.backward()
        optimizer.step()


def test_words() -> None:
    assert ConstantOutput("f", "result", (True, None)).words() == "result of f is True or None"
