"""The deduction of conditions by the published algorithm (OSDI'25, section 3.5): worked examples.

Each is small enough to be followed by hand: the positives, the negatives, and what comes of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from remora.check.conditions import (
    ALWAYS,
    Clause,
    Condition,
    Consistent,
    Constant,
    Example,
    Unequal,
    Within,
)
from remora.check.deduction import deduce

AUTOCAST = {"context.autocast": True, "context.autocast.dtype": "bfloat16"}


def calls(*examples: dict[str, Any]) -> list[Example]:
    """Examples of one call each."""
    return [(one,) for one in examples]


def pairs(*examples: tuple[dict[str, Any], dict[str, Any]]) -> list[Example]:
    """Examples of two things each, as of two variables or two calls."""
    return list(examples)


def when(*clauses: Clause) -> Condition:
    return Condition(any_of=(clauses,))


def test_no_negatives_no_condition() -> None:
    assert deduce(calls({"phase": "train"}, {"phase": "eval"}), []) == ALWAYS
    assert deduce([], calls({"phase": "train"})) is None


def test_a_clause_that_excludes_no_negative_is_dropped() -> None:
    """Both share the rank and the gradient mode; only the phase tells them apart."""
    found = deduce(
        calls({"phase": "train", "grad": True, "rank": 0}),
        calls({"phase": "eval", "grad": True, "rank": 0}),
    )
    assert found == when(Constant("phase", ("train",)))


def test_every_clause_that_excludes_one_is_kept() -> None:
    """Neither is needed beside the other, and neither is dropped: each is false of a negative."""
    found = deduce(
        calls({"phase": "eval", "grad": False}),
        calls({"phase": "train", "grad": True}),
    )
    assert found == when(Constant("phase", ("eval",)), Constant("grad", (False,)))


def test_two_numbers_are_no_constant_and_up_to_four_strings_are_one() -> None:
    positives = calls({"size": 1, "kind": "a"}, {"size": 2, "kind": "b"})
    assert deduce(positives, calls({"size": 3, "kind": "c"})) == when(Constant("kind", ("a", "b")))

    four = calls(*({"kind": kind} for kind in "abcd"))
    assert deduce(four, calls({"kind": "e"})) == when(Constant("kind", tuple("abcd")))


def test_five_strings_are_split_into_a_disjunction_of_each() -> None:
    five = calls(*({"kind": kind} for kind in "abcde"))
    found = deduce(five, calls({"kind": "f"}))

    assert found is not None
    assert not found.inverted
    assert {clauses[0] for clauses in found.any_of} == {
        Constant("kind", (kind,)) for kind in "abcde"
    }


def test_values_that_merge_into_consistent() -> None:
    """Two tensors of any one type: three types are no constant, and in each pair it is the same."""
    positives = pairs(*(({"dtype": n}, {"dtype": n}) for n in (16, 32, 64)))
    negatives = pairs(({"dtype": 16}, {"dtype": 32}))

    assert deduce(positives, negatives) == when(Consistent("dtype"))


def test_unequal() -> None:
    """Different ranks hold different shards; within a rank nothing can be said."""
    positives = pairs(({"rank": 0}, {"rank": 1}), ({"rank": 1}, {"rank": 2}))
    negatives = pairs(({"rank": 1}, {"rank": 1}))

    assert deduce(positives, negatives) == when(Unequal("rank"))


def test_a_context_manager_with_its_arguments() -> None:
    positives = calls({**AUTOCAST, "rank": 0}, {**AUTOCAST, "rank": 1})
    negatives = calls(
        {"context.autocast": True, "context.autocast.dtype": "float16", "rank": 0}, {"rank": 1}
    )
    assert deduce(positives, negatives) == when(Within("autocast", {"dtype": "bfloat16"}))


def test_a_disjunction_of_two_clauses() -> None:
    """It holds of the first layer, and in training: nothing is common to all three positives."""
    positives = calls(
        {"first": True, "mode": True}, {"first": True, "mode": False},
        {"first": False, "mode": True},
    )  # fmt: skip
    found = deduce(positives, calls({"first": False, "mode": False}))

    assert found is not None
    assert not found.inverted
    assert set(found.any_of) == {(Constant("first", (True,)),), (Constant("mode", (True,)),)}


def test_a_disjunction_of_conjunctions() -> None:
    """Equal to each other: a value alone picks no side, two together do."""
    positives = calls({"a": 1, "b": 1}, {"a": 2, "b": 2})
    negatives = calls({"a": 1, "b": 2}, {"a": 2, "b": 1})
    found = deduce(positives, negatives)

    assert found is not None
    assert set(found.any_of) == {
        (Constant("a", (1,)), Constant("b", (1,))), (Constant("a", (2,)), Constant("b", (2,))),
    }  # fmt: skip


def test_inverted_where_only_the_negatives_have_something_in_common() -> None:
    """The positives share no property at all; each negative lies within no_grad."""
    positives = calls({"x": 1}, {"y": 1}, {})
    negatives = calls({"x": 1, "context.no_grad": True}, {"context.no_grad": True})

    assert deduce(positives, negatives) == Condition(((Within("no_grad"),),), inverted=True)


def test_none_where_the_same_holds_of_both() -> None:
    same = calls({"phase": "train"})

    assert deduce(same, same) is None
    assert deduce(calls({"n": 1}, {"n": 2}), calls({"n": 1}, {"n": 3})) is None


@pytest.mark.parametrize("flag", [True, 1])
def test_true_is_another_value_than_one(flag: Any) -> None:
    other = 1 if flag is True else True

    assert deduce(calls({"flag": flag}), calls({"flag": other})) == when(Constant("flag", (flag,)))
