"""Consistent across ranks: what every rank holds equal, and the step at which one does not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.ranks.meeting import Room

Steps = Sequence[Mapping[str, Hashable]]


def learned(*ranks: Steps, fewest: int = 3) -> list[Invariant]:
    """What is learned of a job, each rank told as the contents at each of its steps."""
    learner, room = InvariantLearner(fewest=fewest), Room(len(ranks))
    for rank, steps in enumerate(ranks):
        learner.join(room.seat(rank))
        for number, contents in enumerate(steps):
            learner.compare(number, contents)
            learner.step_ended(number)
        learner.run_ended("job")
    return [one for one in learner.invariants().invariants if "rank" in one.words()]


def said(*ranks: Steps) -> set[str]:
    return {one.claim.one for one in learned(*ranks)}  # type: ignore[union-attr]


def found(invariants: Sequence[Invariant], *ranks: Steps) -> list[Finding]:
    """What is found in a job whose ranks come to each step in turn, the first one first."""
    findings: list[Finding] = []
    room = Room(len(ranks))
    checkers = [Checker(invariants, findings.append) for _ in ranks]
    for rank, checker in enumerate(checkers):
        checker.join(room.seat(rank))
    for number, each in enumerate(zip(*ranks, strict=True)):
        for checker, contents in zip(checkers, each, strict=True):
            checker.compare(number, contents)
            checker.step_ended(number)
    assert all(rule.triggered for rule in checkers[-1].rules)
    return findings


def steps(seed: int = 0, *, count: int = 6, shard: int = 0) -> list[dict[str, Hashable]]:
    """A model that all ranks hold, but for a layer that each has a part of."""
    return [
        {
            "model.norm.weight": hash((seed, n, "norm")),
            "model.norm.bias": hash((seed, n, "bias")),
            "model.shard.weight": hash((seed, n, "shard", shard)),
            "optimizer.exp_avg[model.norm.weight]": hash((seed, n, "average")),
        }
        for n in range(count)
    ]


def test_all_that_is_equal_is_told_by_its_largest_modules() -> None:
    assert said(steps(), steps()) == {"model", "optimizer"}
    assert said(steps(shard=0), steps(shard=1)) == {"model.norm", "optimizer"}


def test_one_process_teaches_nothing_of_ranks() -> None:
    assert learned(steps()) == []


def test_what_only_one_rank_has_is_not_told() -> None:
    """As an optimizer whose state is split over the ranks."""
    other = [
        {name: content for name, content in step.items() if "exp_avg" not in name}
        for step in steps()
    ]

    assert said(steps(), other) == {"model"}


def test_what_differed_once_is_not_told() -> None:
    other = steps()
    other[3]["model.norm.bias"] = 0

    assert said(steps(), other) == {"model.norm.weight", "model.shard", "optimizer"}


def test_jobs_are_not_compared_with_each_other() -> None:
    learner = InvariantLearner()
    for seed in (1, 2):
        room = Room(2)
        for rank in range(2):
            learner.join(room.seat(rank))
            for number, contents in enumerate(steps(seed)):
                learner.compare(number, contents)
            learner.run_ended("job")

    [model, optimizer] = [one for one in learner.invariants().invariants if "rank" in one.words()]
    assert (model.support, optimizer.support) == (12, 12)


def test_a_rank_that_comes_apart_is_found_in_that_step() -> None:
    invariants = learned(steps(), steps())
    other = steps(7)
    other[2]["model.norm.bias"] = 0

    [one] = found(invariants, steps(7), other)

    assert one.invariant.words() == "model is the same on every rank at the end of a step"
    assert (one.step, one.seen) == (2, "model.norm.bias differs from rank 0's after step 2")


def test_the_first_to_come_may_be_the_one_that_is_wrong() -> None:
    invariants = learned(steps(), steps())
    wrong = steps(7)
    wrong[4]["model.norm.bias"] = wrong[4]["model.norm.weight"] = 0

    findings = found(invariants, wrong, steps(7), steps(7))

    assert [(one.step, one.seen) for one in findings] == [
        (4, "model.norm.bias, model.norm.weight differ from rank 0's after step 4")
    ] * 2


def test_a_variable_that_one_rank_lacks_is_not_judged_and_the_others_are() -> None:
    invariants = learned(steps(), steps())
    other = [
        {name: content for name, content in step.items() if name != "model.norm.bias"}
        for step in steps(7)
    ]
    other[5]["model.shard.weight"] = 0

    [one] = found(invariants, steps(7), other)

    assert (one.step, one.seen) == (5, "model.shard.weight differs from rank 0's after step 5")


def test_many_names_are_cut_short() -> None:
    ranks = [[{f"model.{n}": (rank if n else 0) for n in range(9)}] * 3 for rank in (0, 0)]
    other = [{f"model.{n}": (1 if n else 0) for n in range(9)}] * 3

    findings = found(learned(*ranks), ranks[0], other)

    assert findings[0].seen == (
        "model.1, model.2, model.3 and 5 more differ from rank 0's after step 0"
    )
    assert len(findings) == 3


def test_a_job_of_one_process_is_not_judged() -> None:
    [checker] = [Checker(learned(steps(), steps()), lambda finding: None)]

    assert checker.compared() == frozenset()
    checker.compare(0, steps()[0])
    assert [rule.triggered for rule in checker.rules] == [0, 0]
