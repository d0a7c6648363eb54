"""Range: how much is learned with what room, and what lies beyond is found in its step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.check.stories import TRAIN, Told, checked, learned
from tests.check.training import Program, check, first, learn
from torch import nn

from remora.check.calls import OPTIMIZER_STEP
from remora.check.measures import SCALER_UPDATE
from remora.check.relations.range import Range
from remora.check.relations.series import Series

STEPS, BREAKS = 24, 17
NORM = "gradient norm"


def run(values: Sequence[float], number: str = NORM, **told: Any) -> list[list[Told]]:
    """A step of an optimizer for each value."""
    inputs = {"self.elements": 10}
    return [
        [Told(OPTIMIZER_STEP, **{"inputs": inputs, "numbers": {number: one}, **told})]
        for one in values
    ]


def bounds(values: Sequence[float], number: str = NORM) -> tuple[float | None, float | None] | None:
    claims = [one.claim for one in learned(run(values, number)) if isinstance(one.claim, Range)]
    return (claims[0].low, claims[0].high) if claims else None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0] * 16, (0.01, 10)),
        ([1.0] * 15, None),
        ([0.5, 2.0] * 20, (0.01, 10)),
        ([0.2, 4.0] * 20, (0.001, 100)),
        ([1e-5, 1.0] * 20, (1e-7, 10)),
        ([0.0, 1.0] * 20, (None, 10)),
        ([0.8**n for n in range(40)], (None, 10)),
        ([1.0] * 20 + [1e-4] * 20, (None, 10)),
        ([1e-4] * 20 + [1.0] * 20, (1e-6, None)),
        ([10.0**-n for n in range(40)], (None, 10)),
        ([1.0] * 30 + [math.inf], None),
        ([1.0] * 30 + [math.nan], None),
    ],
)
def test_bounds_leave_room_and_hold_in_both_halves(
    values: list[float], expected: tuple[float | None, float | None] | None
) -> None:
    assert bounds(values) == expected


@pytest.mark.parametrize(
    ("number", "values", "expected"),
    [
        ("loss of f", [1.0] * 20, (None, 10)),
        ("share of zero gradients", [0.0] * 20, (None, 0.25)),
        ("share of zero gradients", [0.3, 0.0] * 20, (None, 0.75)),
        ("share of zero gradients", [0.6] * 20, None),
        ("step", [1.0] * 20, None),
    ],
)
def test_what_has_no_bound_on_one_side(
    number: str, values: list[float], expected: tuple[float | None, float | None] | None
) -> None:
    assert bounds(values, number) == expected


def test_a_scale_may_double_forever() -> None:
    steps = [[Told(SCALER_UPDATE, numbers={"scale": 65536.0})]] * 20
    [one] = [one for one in learned(steps) if one.relation == "range"]

    assert one.words() == f"scale at {SCALER_UPDATE} is at least 1000"


def test_it_is_about_optimizers_of_the_same_size() -> None:
    invariants = learned(run([1.0] * 20))

    assert [one.step for one in checked(invariants, run([1.0, 11.0, 0.001]))] == [1, 2]
    assert checked(invariants, run([1e9] * 20, inputs={"self.elements": 11})) == []
    assert checked(invariants, run([math.nan]))[0].seen == "it is nan"


def test_a_warm_up_that_lies_beyond_is_left_out() -> None:
    early = run([1e4] * 5, context={**TRAIN, "warm_up": True})
    late = run([1.0] * 20, context={**TRAIN, "warm_up": False})
    [one] = [one for one in learned(early + late) if one.relation == "range"]
    assert one.words().endswith("is at least 0.01 and at most 10 when self.elements is 10 "
                                "and warm_up is False")  # fmt: skip
    assert checked([one], early + late) == []
    assert len(checked([one], late + run([1e4], context={**TRAIN, "warm_up": False}))) == 1

    like_it = run([1.0] * 5, context={**TRAIN, "warm_up": True})
    [one] = [one for one in learned(like_it + late) if one.relation == "range"]
    assert one.words().endswith("when self.elements is 10")
    assert one.support == 25


def test_each_run_has_its_own_halves() -> None:
    """Two runs of one program whose learning rate differs, neither of which drifts."""
    [one] = [o for o in learned(run([1.0] * 20), run([1e3] * 20)) if o.relation == "range"]

    assert (one.claim.low, one.claim.high) == (0.01, 1e4)  # type: ignore[union-attr]


def test_a_run_of_one_step_says_nothing_against_it() -> None:
    [one] = [o for o in learned(run([1.0] * 20), run([1.0])) if o.relation == "range"]

    assert one.support == 21


def test_a_series_is_known_by_its_extremes() -> None:
    for length in range(2, 70):
        series = Series()
        for value in range(length):
            series.add(float(value))
        before, after = series.halves()

        assert (before.low, after.high) == (series.low, series.high) == (0, length - 1)
        assert after.low == before.high + 1
        assert length / 3 - 1 <= before.high + 1 <= length * 2 / 3


# ---------------------------------------------------------------- of real training


def training(
    disturb: Callable[[nn.Module, torch.Tensor, int], torch.Tensor] = lambda net, loss, step: loss,
    seed: int = 0,
    batch: int = 16,
) -> Program:
    def program() -> None:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(STEPS):
            inputs = torch.randn(batch, 8)
            labels = (inputs.sum(1) > 0).long()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs), labels)
            disturb(net, loss, step).backward()
            optimizer.step()

    return program


@pytest.fixture(scope="module")
def healthy() -> list[Any]:
    return learn(training(), relations=["range"])


def test_what_is_learned_of_a_training(healthy: list[Any]) -> None:
    at = f"at {OPTIMIZER_STEP} is"
    when = "when self.elements is 178"

    assert {one.words() for one in healthy} >= {
        f"loss of torch.nn.functional.cross_entropy {at} at most 10 {when}",
        f"learning rate of group 0 {at} at least 0.001 and at most 1 {when}",
        f"share of zero gradients {at} at most 0.25 {when}",
        f"gradient norm {at} at least 0.001 and at most 10 {when}",
    }
    assert {
        "gradient norm of net.0",
        "gradient norm of net.2",
        "update ratio",
        "parameter norm",
    } <= {one.claim.number for one in healthy}


@pytest.mark.parametrize(("seed", "batch"), [(1, 16), (2, 32), (3, 8)])
def test_another_seed_or_batch_size_is_within(healthy: list[Any], seed: int, batch: int) -> None:
    assert check(healthy, training(seed=seed, batch=batch)) == []


def at_the_break(
    change: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> Callable[[nn.Module, torch.Tensor, int], torch.Tensor]:
    return lambda net, loss, step: change(net, loss) if step >= BREAKS else loss


def cut_off(net: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    net[0].weight.register_hook(torch.zeros_like)  # type: ignore[index]
    net[0].bias.register_hook(torch.zeros_like)  # type: ignore[index]
    return loss


def thrown(net: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    net[2].weight.data.mul_(1000)  # type: ignore[index]
    return loss


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "number", "seen"),
    [
        (lambda net, loss: loss * 65536, "gradient norm at", "it is "),
        (lambda net, loss: loss * 0, "update ratio", "it is 0"),
        (lambda net, loss: loss * math.nan, "gradient norm of net.2", "it is nan"),
        (cut_off, "gradient norm of net.0", "it is 0"),
        (cut_off, "share of zero gradients", "it is 0.5"),
        (thrown, "parameter norm", "it is "),
    ],
    ids=["scaled", "nothing left", "nan", "a layer cut off", "half cut off", "thrown"],
)
def test_what_lies_beyond_is_found_in_its_step(
    healthy: list[Any], change: Any, number: str, seen: str
) -> None:
    found = check(healthy, training(at_the_break(change)))

    one = first(found, number)
    assert one.step == BREAKS
    assert one.seen.startswith(seen)
