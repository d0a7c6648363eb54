"""Contains: what a call always has within it, and what it has under a condition."""

from __future__ import annotations

from tests.check.stories import EVAL, TRAIN, Told, checked, learned, said


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


def test_a_call_that_raised_says_nothing() -> None:
    raised = Told("a", failed=True)

    assert said(learned([[Told("a", ["b"])], [raised]] * 4), "contains") == {"a calls b"}
    assert checked(learned([[Told("a", ["b"])]] * 4), [[raised]]) == []


def test_calls_of_another_thread_are_not_within() -> None:
    invariants = learned([[Told("a", ["b"])]] * 4)

    assert len(checked(invariants, [[Told("b", thread=2), Told("a")]])) == 1
