"""Agreement: what every rank gives a collective, and that it is told before the collective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.check.stories import EVAL, TRAIN, Story, Told

from remora.check.calls import Call
from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.ranks.meeting import Room

REDUCE = "torch.distributed.all_reduce"
Run = Sequence[Sequence[Told | str]]


def reduce(
    rows: int = 4, *, context: Mapping[str, Any] = TRAIN, group: tuple[int, ...] = (), **more: Any
) -> Told:
    inputs = {"tensor.shape": (rows, 2), "tensor.dtype": "torch.float32", "op": "SUM"}
    more |= {"group.ranks": group} if group else {"group": None}
    return Told(REDUCE, inputs={**inputs, "async_op": False, **more}, context=context)


def learned(*ranks: Run) -> list[Invariant]:
    learner, room = InvariantLearner(), Room(len(ranks))
    for rank, run in enumerate(ranks):
        learner.join(room.seat(rank))
        story = Story(learner)
        for step in run:
            story.step(*step)
        learner.run_ended("job")
    found = learner.invariants().invariants
    return [one for one in found if one.relation == "agreement"]


def found(invariants: Sequence[Invariant], *ranks: Run) -> list[Finding]:
    findings: list[Finding] = []
    room = Room(len(ranks))
    for rank, run in enumerate(ranks):
        checker = Checker(invariants, findings.append)
        checker.join(room.seat(rank))
        story = Story(checker)
        for step in run:
            story.step(*step)
    return findings


def words(invariants: Sequence[Invariant]) -> set[str]:
    return {one.words().replace(f"every rank gives {REDUCE} the same ", "") for one in invariants}


def test_what_is_equal_at_every_call_is_told() -> None:
    rank = [[reduce(), reduce(3)]] * 3

    assert words(learned(rank, rank)) == {"tensor.shape", "tensor.dtype", "op"}


def test_what_differs_is_not_told_and_sizes_may_change_from_call_to_call() -> None:
    zero = [[reduce(n, count=n)] for n in range(1, 6)]
    one = [[reduce(n, count=-n)] for n in range(1, 6)]

    assert words(learned(zero, one)) == {"tensor.shape", "tensor.dtype", "op"}


def test_what_agrees_in_training_alone_is_told_of_it() -> None:
    zero = [[reduce(4), reduce(9, context=EVAL)]] * 3
    one = [[reduce(4), reduce(7, context=EVAL)]] * 3

    [shape] = [one for one in learned(zero, one) if one.claim.property == "tensor.shape"]  # type: ignore[union-attr]

    assert shape.when.words() in ("when phase is 'train'", "when phase is 'train' and grad is True")
    assert found([shape], zero, one) == []


def test_other_functions_and_single_processes_teach_nothing() -> None:
    send = [[Told("torch.distributed.send", inputs={"tensor.shape": (2,)})]] * 4

    assert learned(send, send) == []
    assert learned([[reduce()]] * 4) == []


def test_another_shape_is_found_at_that_call() -> None:
    invariants = learned([[reduce(), reduce(3)]] * 3, [[reduce(), reduce(3)]] * 3)
    wrong = [[reduce(), reduce(3)], [reduce(), reduce(5)], [reduce(), reduce(3)]]

    [one] = found(invariants, [[reduce(), reduce(3)]] * 3, wrong)

    assert one.invariant.words() == f"every rank gives {REDUCE} the same tensor.shape"
    assert (one.step, one.seen) == (1, "tensor.shape is (5, 2) here and (3, 2) on rank 0")


def test_it_is_told_before_the_collective_begins() -> None:
    """The job may stall in it."""
    rank = [[reduce()]] * 3
    findings: list[Finding] = []
    room = Room(2)
    zero, one = (Checker(learned(rank, rank), findings.append) for _ in range(2))
    zero.join(room.seat(0))
    one.join(room.seat(1))

    zero.begin(Call(REDUCE, 0, 1, None, 0, reduce(2).inputs, TRAIN))
    one.begin(Call(REDUCE, 0, 1, None, 0, reduce(3).inputs, TRAIN))

    assert [finding.seen for finding in findings] == [
        "tensor.shape is (3, 2) here and (2, 2) on rank 0"
    ]


def test_groups_are_counted_apart() -> None:
    """Ranks 0 and 2 are one group, 1 and 3 another, whose sizes have nothing to do with it."""

    def rank(number: int, rows: int) -> Run:
        peers = (0, 2) if number % 2 == 0 else (1, 3)
        return [[reduce(4), reduce(rows, group=peers)]] * 3

    job = [rank(0, 5), rank(1, 6), rank(2, 5), rank(3, 6)]
    invariants = learned(*job)

    assert "tensor.shape" in words(invariants)
    assert found(invariants, *job) == []
    [one, *_] = found(invariants, *job[:3], rank(3, 7))
    assert one.seen == "tensor.shape is (7, 2) here and (6, 2) on rank 1"


def test_the_whole_world_is_one_group_however_it_is_named() -> None:
    zero = [[reduce(4)]] * 3
    one = [[reduce(4, group=(0, 1))]] * 3

    assert "tensor.shape" in words(learned(zero, one))
