"""Budgets: what is expected, what is allowed, and never more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.core.clock import ManualClock
from remora.lab.budget import Budget


def test_without_a_limit_everything_is_allowed() -> None:
    budget = Budget(ManualClock(), None)
    budget.took("a", 1e9)
    assert budget.allows(["a"] * 100)
    assert budget.timeout(60) == 60


def test_unknown_arms_are_expected_to_take_the_mean_of_all() -> None:
    budget = Budget(ManualClock(), 100)
    assert budget.expected("a") == 0
    budget.took("a", 2)
    budget.took("b", 4)
    assert (budget.expected("a"), budget.expected("c")) == (2, 3)


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=200), st.floats(1, 300))
def test_steady_trials_never_overrun(durations: list[float], seconds: float) -> None:
    """When trials take what they took before, the budget is kept to the trial."""
    clock = ManualClock()
    budget = Budget(clock, seconds)
    longest = max(durations)
    budget.took("a", longest)
    for duration in durations:
        if not budget.allows(["a"]):
            break
        clock.advance(round(min(duration, longest) * 1e9))
    assert budget.spent <= seconds


def test_a_timeout_is_cut_to_what_is_left() -> None:
    clock = ManualClock()
    budget = Budget(clock, 10)
    clock.advance(7 * 10**9)
    assert budget.timeout(60) == 3
