"""A compiled condition judges as the condition itself does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.check.conditions import (
    ALWAYS,
    Clause,
    Condition,
    Consistent,
    Constant,
    Unequal,
    Within,
    compiled,
)

NAMES = st.sampled_from(["phase", "grad", "context.autocast"])
VALUES: st.SearchStrategy[Any] = st.sampled_from(["train", "eval", True, False, None, 1, 0, 1.0])
CLAUSES: st.SearchStrategy[Clause] = st.one_of(
    st.builds(Constant, NAMES, st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
    st.builds(Consistent, NAMES),
    st.builds(Unequal, NAMES),
    st.just(Within("autocast")),
)
CONJUNCTIONS = st.lists(CLAUSES, max_size=3).map(tuple)
CONDITIONS = st.builds(
    Condition, st.lists(CONJUNCTIONS, min_size=1, max_size=2).map(tuple), st.booleans()
)
MEMBERS = st.dictionaries(NAMES, VALUES)


@given(condition=CONDITIONS, example=st.lists(MEMBERS, min_size=1, max_size=2))
def test_compiled_is_the_same(condition: Condition, example: list[dict[str, Any]]) -> None:
    judge = compiled(condition)

    assert (judge is None) == condition.unconditional
    assert (judge is None or judge(example)) == condition.holds(example)


@pytest.mark.parametrize(
    ("member", "holds"),
    [({"grad": True, "phase": "train"}, True), ({"grad": 1, "phase": "train"}, False),
     ({"grad": True, "phase": "eval"}, False), ({"grad": True}, False)],
)  # fmt: skip
def test_what_is_looked_up_is_the_same_in_kind(member: dict[str, Any], holds: bool) -> None:
    condition = Condition(any_of=((Constant("grad", (True,)), Constant("phase", ("train",))),))
    judge = compiled(condition)

    assert judge is not None
    assert judge([member]) is holds


def test_what_always_holds_is_not_judged() -> None:
    assert compiled(ALWAYS) is None
