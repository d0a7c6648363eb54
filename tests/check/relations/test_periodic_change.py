"""Periodic change: copies that follow every so many steps, and the step at which one does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest
import torch
from tests.check.stories import Told, checked, learned, said
from tests.check.training import Program, check, first, learn, words
from torch import nn

from remora.check.invariants import Invariant
from remora.check.relations.periodic_change import PeriodicChange

RELATION = ["periodic change"]
STEPS = 24
Steps = list[Mapping[str, Hashable]]


def run(steps: Sequence[Mapping[str, Hashable]], *also: str) -> list[list[Told | str]]:
    return [[Told("f", contents=contents), *also] for contents in steps]


def every(count: int, length: int = STEPS) -> Steps:
    return [{"copy.a": number // count} for number in range(length)]


def found_in(
    claim: PeriodicChange, steps: Sequence[Mapping[str, Hashable]]
) -> list[tuple[int, str]]:
    return [(one.step, one.seen) for one in checked([Invariant(claim=claim)], run(steps))]


def test_every_so_many_steps() -> None:
    assert said(learned(run(every(3))), "periodic change") == {
        "copy changes every 3 steps, and at no other"
    }
    assert said(learned(run(every(1))), "periodic change") == {"copy changes at every step"}


def test_no_period() -> None:
    slips = [*every(3, length=23), {"copy.a": -1}]
    stops = [*every(3), *[every(3)[-1]] * 3]
    begins_late = [*[{"copy.a": -1}] * 4, *every(3)]
    runs: list[Steps] = [slips, stops, begins_late, every(3, length=14), every(40)]
    for steps in runs:
        assert said(learned(run(steps)), "periodic change") == set()


def test_what_comes_once_an_epoch_depends_on_the_batch_size() -> None:
    steps = run(every(3))
    for number in range(2, STEPS, 3):
        steps[number].append("torch.nn.Module.eval")

    assert said(learned(steps), "periodic change") == set()


def test_modules_whose_variables_change_together() -> None:
    steps: Steps = [
        {"a.x": n // 2, "a.y.z": n // 2, "b.x": n // 2, "b.y": (n + 1) // 2, "c": 0}
        for n in range(STEPS)
    ]
    assert said(learned(run(steps)), "periodic change") == {
        f"{name} changes every 2 steps, and at no other" for name in ("a", "b.x", "b.y")
    }


def test_what_is_late_early_or_in_part_is_found() -> None:
    claim = PeriodicChange("copy", 3)
    late: Steps = [{"copy.a": min(n // 3, 2)} for n in range(12)]
    assert found_in(claim, late) == [(9, "copy.a is as before after step 9")]
    never: Steps = [{"copy.a": 0}] * 5
    assert found_in(claim, never) == [(3, "copy.a is as before after step 3")]
    early: Steps = [{"copy.a": n // 3 + (n >= 5)} for n in range(6)]
    assert found_in(claim, early) == [(5, "they change after step 5, 2 after the last time")]
    in_part: Steps = [{"copy.a": n // 3, "copy.b": n // 3 if n < 6 else 1} for n in range(7)]
    assert found_in(claim, in_part) == [(6, "copy.b is as before after step 6, and others are not")]


def test_a_digest_of_all_elements_is_no_change() -> None:
    sampled: Steps = [
        {"copy.a": ("float", n // 3, n) if n % 5 == 0 else ("float", n // 3)} for n in range(12)
    ]
    assert found_in(PeriodicChange("copy", 3), sampled) == []


# ---------------------------------------------------------------- of real training


Follows = Callable[[int], bool]


def every_fourth(step: int) -> bool:
    return step % 4 == 0


def training(
    copies: Follows = every_fourth, averages: Follows = lambda step: True, size: int = 4
) -> Program:
    """A target that is copied, and an average that follows, at the steps that are said."""

    def program() -> None:
        net = nn.Linear(size, size)
        target, average = copy.deepcopy(net), copy.deepcopy(net)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        for step in range(STEPS):
            optimizer.zero_grad()
            net(torch.randn(3, size)).square().mean().backward()
            if averages(step):
                with torch.no_grad():
                    for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
                        mean.lerp_(weight, 0.1)
            if copies(step):
                target.load_state_dict(net.state_dict())
            optimizer.step()

    return program


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 200], ids=["read whole", "sampled"])
def test_a_target_network_and_an_average_of_weights(size: int) -> None:
    invariants = learn(training(size=size), relations=RELATION)
    assert words(invariants) == {
        "target changes every 4 steps, and at no other", "average changes at every step",
    }  # fmt: skip
    assert check(invariants, training(size=size)) == []

    forgotten = training(lambda step: every_fourth(step) and step < 9, size=size)
    one = first(check(invariants, forgotten), "target")
    assert (one.step, one.seen) == (12, "target.weight is as before after step 12")
    stopped = training(averages=lambda step: step != 13, size=size)
    one = first(check(invariants, stopped), "average")
    assert (one.step, one.seen) == (13, "average.weight is as before after step 13")
