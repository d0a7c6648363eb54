"""One step in so many is watched: what is found then, and that gaps accuse nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.check.rides import learned_from
from torch import nn

import remora
from remora.check.invariants import Header, Invariant, Invariants, write_invariants
from remora.check.observe.sampling import CALLS, EVERYTHING, NOTHING, Sampling
from remora.check.relations.changes import Changes
from remora.check.relations.constant_output import ConstantOutput
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.lead import Lead
from remora.check.relations.periodic_change import PeriodicChange
from remora.check.report import CheckReport
from remora.core.errors import BadValue

ZERO, BACKWARD = "torch.optim.Optimizer.zero_grad", "torch.Tensor.backward"
TRAIN, EVAL = "torch.nn.Module.train", "torch.nn.Module.eval"
STEP, RELU = "torch.optim.Optimizer.step", "torch.nn.functional.relu"


def epoch(steps: range, forgets: range = range(0)) -> Iterator[int]:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    for step in steps:
        if step not in forgets:
            optimizer.zero_grad()
        nn.functional.relu(model(torch.ones(3, 4))).sum().backward()
        optimizer.step()
        yield step


def train(steps: int, forgets: range = range(0)) -> None:
    for _ in epoch(range(steps), forgets):
        pass


def whole_epoch(steps: int) -> None:
    train(steps)


def file_of(tmp_path: Path, *claims: Any) -> Path:
    path = tmp_path / "healthy.inv"
    invariants = tuple(Invariant(claim=claim) for claim in claims)
    write_invariants(path, Invariants(header=Header(), invariants=invariants))
    return path


def checked(tmp_path: Path, *claims: Any, every: int, steps: int = 25, **how: Any) -> CheckReport:
    with remora.check.watch(file_of(tmp_path, *claims), every=every) as service:
        train(steps, **how)
        return service.report()


@pytest.mark.parametrize(("every", "remembers", "watched"), [
    (1, True, [EVERYTHING] * 6),
    (2, False, [EVERYTHING, NOTHING] * 3),
    (2, True, [EVERYTHING, CALLS] * 3),
    (3, False, [EVERYTHING, NOTHING, NOTHING] * 2),
    (3, True, [EVERYTHING, NOTHING, CALLS] * 2),
])  # fmt: skip
def test_which_steps_are_watched(every: int, remembers: bool, watched: list[object]) -> None:
    sampling = Sampling(every, remembers=remembers)
    assert [sampling.of(step) for step in range(6)] == watched


@pytest.mark.parametrize("every", [0, -1, True, 1.5])
def test_what_is_no_number_of_steps(every: Any, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="choose a number of steps from 1"):
        checked(tmp_path, Cover(ZERO, BACKWARD), every=every)


@pytest.mark.slow
@pytest.mark.parametrize("claim", [Cover(ZERO, BACKWARD), Lead(BACKWARD, ZERO)])
def test_what_reaches_over_a_steps_end_is_found_in_the_next_watched_step(
    claim: Any, tmp_path: Path
) -> None:
    report = checked(tmp_path, claim, every=10, forgets=range(13, 99))

    [found] = report.violations
    assert found.step in (19, 20)  # the calls of step 19 are followed, to judge those of step 20
    assert (report.steps, report.every) == (25, 10)


@pytest.mark.slow
@pytest.mark.parametrize("claim", [Cover(ZERO, BACKWARD), Lead(BACKWARD, ZERO)])
@pytest.mark.parametrize("every", [2, 3, 7, 10])
def test_gaps_accuse_nobody(claim: Any, every: int, tmp_path: Path) -> None:
    report = checked(tmp_path, claim, every=every)

    assert report.violations == []
    assert report.passed


@pytest.mark.parametrize("claim", [Cover(EVAL, TRAIN), Lead(TRAIN, EVAL)])
def test_what_comes_every_so_many_steps_may_have_come_in_between(
    claim: Any, tmp_path: Path
) -> None:
    path = file_of(tmp_path, claim)
    with remora.check.watch(path, every=5) as service:
        model = nn.Linear(4, 2)
        for step in epoch(range(23)):
            if step % 5 == 2:
                model.eval()
            if step % 5 == 4:  # at the beginning of the next step
                model.train()

    assert service.report().violations == []


@pytest.mark.slow
def test_what_happens_in_between_is_not_seen(tmp_path: Path) -> None:
    report = checked(tmp_path, Cover(ZERO, BACKWARD), every=10, forgets=range(3, 8))
    assert report.violations == []


def test_each_watched_step_is_judged_once(tmp_path: Path) -> None:
    seen: list[int] = []
    path = file_of(tmp_path, Changes(STEP, "parameter", "kept"))
    with remora.check.watch(path, every=4) as service:
        for step in epoch(range(13)):
            seen.append(sum(one.count for one in service.report().violations))
            assert step + 1 == service.report().steps

    assert seen == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]


def test_a_call_that_reaches_over_what_is_not_watched_is_not_judged(tmp_path: Path) -> None:
    path = file_of(tmp_path, Contains(f"{__name__}.whole_epoch", RELU))
    with remora.check.watch(path, every=4) as service:
        whole_epoch(9)  # begins watched, ends watched
        whole_epoch(2)
        report = service.report()

    assert report.violations == []


def test_functions_are_called_straight_in_between_and_put_back(tmp_path: Path) -> None:
    bare = nn.functional.relu
    wrong_at_every_call = ConstantOutput(RELU, "result.dtype", ("torch.float64",))
    path = file_of(tmp_path, wrong_at_every_call)
    with remora.check.watch(path, every=3) as service:
        calls = [service.report().violations[0].count for _ in epoch(range(7))]

    assert calls == [1, 1, 1, 2, 2, 2, 3]
    assert nn.functional.relu is bare


@pytest.fixture(scope="module")
def learned() -> list[Invariant]:
    return learned_from(lambda: train(12))


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3, 10])
def test_all_that_is_learned_holds_of_a_sampled_healthy_run(
    learned: list[Invariant], every: int, tmp_path: Path
) -> None:
    path = tmp_path / "healthy.inv"
    write_invariants(path, Invariants(header=Header(), invariants=tuple(learned)))
    with remora.check.watch(path, every=every) as service:
        train(30)
        report = service.report()

    assert report.violations == []
    assert len(report.passed) > 10


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3, 4])
def test_what_changes_every_so_many_steps_is_not_taken_to_be_early(
    every: int, tmp_path: Path
) -> None:
    path = file_of(tmp_path, PeriodicChange("target", 3), Cover(ZERO, BACKWARD))
    target = nn.Linear(30, 20)
    with remora.check.watch(path, every=every) as service:
        for step in epoch(range(26)):
            target(torch.ones(1, 30))
            if step % 3 == 1:  # of the next step
                with torch.no_grad():
                    target.weight.add_(1)
                    target.bias.add_(1)

    assert service.report().violations == []
