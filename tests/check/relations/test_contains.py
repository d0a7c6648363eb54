"""Contains: what a call always has within it, and what it has under a condition."""

from __future__ import annotations

from typing import Any

import pytest
from tests.check.stories import EVAL, TRAIN, Told, checked, learned, said

from remora.check.checker import Checker
from remora.check.invariants import Invariant
from remora.check.relations.contains import Contains


def test_a_call_that_lacks_what_it_always_had_is_found() -> None:
    invariants = learned([[Told("forward", ["linear", "relu"])]] * 4)
    broken = [[Told("forward", ["linear", "relu"])], [Told("forward", ["linear"])]]

    assert said(invariants, "contains") == {"forward calls linear", "forward calls relu"}
    [found] = checked(invariants, broken)
    assert (found.step, found.seen) == (1, "no call of relu")


def test_what_holds_in_training_only_is_said_so() -> None:
    steps = [
        [Told("forward", ["dropout", "linear"]), Told("forward", ["linear"], context=EVAL)]
    ] * 4
    invariants = learned(steps)

    assert "forward calls dropout when phase is 'train' and grad is True" in said(
        invariants, "contains"
    )
    assert checked(invariants, steps) == []
    assert checked(invariants, [[Told("forward", ["linear"], context=EVAL)]] * 3) == []
    [found] = checked(invariants, [[Told("forward", ["linear"], context=TRAIN)]])
    assert found.seen == "no call of dropout"


def test_what_is_there_or_not_by_no_rule_is_not_learned() -> None:
    steps = [[Told("a", ["b"])], [Told("a")]] * 5

    assert said(learned(steps), "contains") == set()


def test_what_a_contained_call_contains_is_not_said_again() -> None:
    nested = [[Told("a", [Told("b", ["c"])])]] * 4

    assert said(learned(nested), "contains") == {"a calls b", "b calls c"}


@pytest.mark.parametrize(
    "own",
    [
        Told("torch.nn.Module.forward", ["relu"]),
        Told("torch.nn.Sequential.forward", ["relu"]),
        Told("torch.optim.Optimizer.step", ["relu"], inputs={"closure.kind": "function"}),
    ],
    ids=lambda told: told.name,
)
def test_what_the_program_put_into_a_call_is_not_learned(own: Told) -> None:
    assert said(learned([[own]] * 5), "contains") == set()


def test_what_is_called_to_work_in_place_is_not_missed_elsewhere() -> None:
    in_place = [[Told("relu", ["relu_"], inputs={"inplace": True})]] * 4
    invariants = learned(in_place)

    assert said(invariants, "contains") == {"relu calls relu_ when inplace is True"}
    assert checked(invariants, [[Told("relu", inputs={"inplace": False})]]) == []
    assert len(checked(invariants, [[Told("relu", inputs={"inplace": True})]])) == 1


def test_a_call_that_raised_says_nothing() -> None:
    raised = Told("a", failed=True)

    assert said(learned([[Told("a", ["b"])], [raised]] * 4), "contains") == {"a calls b"}
    assert checked(learned([[Told("a", ["b"])]] * 4), [[raised]]) == []


def test_calls_of_another_thread_are_not_within() -> None:
    invariants = learned([[Told("a", ["b"])]] * 4)

    assert len(checked(invariants, [[Told("b", thread=2), Told("a")]])) == 1


def test_only_calls_with_the_inputs_that_are_asked_for_count() -> None:
    asked = Invariant(claim=Contains("a", "b", {"mode": "fast"}))
    plain = Invariant(claim=Contains("a", "b"))
    slow = [[Told("a", [Told("b", inputs={"mode": "slow"}), "b"])]]

    [found] = checked([asked, plain], slow)
    assert (found.invariant, found.seen) == (asked, "no call of b with mode='fast'")
    assert checked([asked, plain], [[Told("a", [Told("b", inputs={"mode": "fast"})])]]) == []


@pytest.mark.parametrize(("asked", "given"), [(1, True), ([1, 2], (1, 3)), (None, "None")])
def test_inputs_are_compared_by_kind_and_whole(asked: Any, given: Any) -> None:
    invariant = Invariant(claim=Contains("a", "b", {"x": asked}))

    assert len(checked([invariant], [[Told("a", [Told("b", inputs={"x": given})])]])) == 1


@pytest.mark.parametrize("other", [2, True])
def test_two_that_differ_in_the_inputs_only_are_counted_apart(other: Any) -> None:
    both = [Invariant(claim=Contains("a", "b", {"x": value})) for value in (1, other)]

    [found] = checked(both, [[Told("a", [Told("b", inputs={"x": 1})])]])
    assert found.invariant is both[1]


def test_the_inputs_that_are_asked_for_are_read() -> None:
    checker = Checker([Invariant(claim=Contains("a", "b", {"x.dtype": "torch.int8"}))], print)

    assert checker.wanted("b").inputs == {"x.dtype"}
    assert checker.wanted("a").inputs == frozenset()
