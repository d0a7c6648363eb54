"""Where runs settle: rates over simulated runs, and the contract's edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.lab.statistics import settled_from
from remora.lab.statistics.simulation import RUNS, SETTLING, settled_rates

SIZES = (20, 100, 1000)
DRIFTING = tuple(name for name in RUNS if name not in SETTLING)
BEFORE = {"flat": 0.0, "slow first step": 0.05, "exponential warm-up": 0.28,
          "step down after a quarter": 0.25}  # fmt: skip
"""The share of the run before the steady state; the exponential is then within 3 % of it."""


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy-tailed"])
@pytest.mark.parametrize("steps", SIZES)
@pytest.mark.parametrize("name", SETTLING)
def test_runs_that_settle_are_found_to_where_they_do(name: str, steps: int, heavy: bool) -> None:
    settled, before = settled_rates(RUNS[name], steps, 150, heavy=heavy)
    assert settled >= 0.97
    assert before == pytest.approx(BEFORE[name], abs=0.12 if "exp" in name else 0.06)


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy-tailed"])
@pytest.mark.parametrize("steps", SIZES)
@pytest.mark.parametrize("name", DRIFTING)
def test_drifts_and_late_shifts_are_no_steady_state(name: str, steps: int, heavy: bool) -> None:
    settled, _ = settled_rates(RUNS[name], steps, 150, heavy=heavy)
    assert settled <= 0.10


@pytest.mark.parametrize("name", ["flat", "drift of +20 %", "drift of −20 %"])
def test_eight_steps_are_enough_for_the_plain_cases(name: str) -> None:
    settled, _ = settled_rates(RUNS[name], 8, 400)
    assert settled >= 0.97 if name == "flat" else settled <= 0.10


@pytest.mark.parametrize("name", RUNS)
def test_costs_that_come_every_period_belong_to_the_steady_state(name: str) -> None:
    settled, before = settled_rates(RUNS[name], 160, 200, period=10)
    if name in SETTLING:
        assert settled >= 0.97
        assert before == pytest.approx(BEFORE[name], abs=0.13)
    else:
        assert settled <= 0.10


@pytest.mark.parametrize("steps", [60, 90, 180])
def test_steps_that_are_now_and_then_slow_do_not_unsettle_a_run(steps: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (300, steps))
    slow = (rng.random((300, steps)) < 0.08) * rng.exponential(0.6, (300, steps))
    assert np.mean([settled_from(run) is not None for run in np.exp(noise + slow)]) >= 0.97


def test_few_long_periods_are_judged_by_their_steps() -> None:
    steps = np.random.default_rng(0).normal(100, 1, 40)
    steps[9::10] = 300
    assert settled_from(steps, period=10) == 0
    steps[:4] = 200
    assert settled_from(steps, period=10) == 10


@given(
    st.integers(1, 12),
    st.integers(8, 150),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(RUNS)),
)
def test_what_is_settled_is_whole_periods_and_at_least_nearly_half(
    period: int, size: int, seed: int, name: str
) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.02, size)
    steps = np.exp(RUNS[name](np.arange(size) / size) + noise)
    found = settled_from(steps, period)
    if found is not None:
        assert (size - found) % period == 0
        assert 0 <= found < size
    assert settled_from(1e6 * steps, period) == found


def test_too_few_steps_show_nothing() -> None:
    assert settled_from([1.0] * 7) is None
    assert settled_from([1.0] * 8) == 0
    assert settled_from([]) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadValue, match="above zero"):
        settled_from([1.0, 0.0] * 8)
    with pytest.raises(BadValue, match="period"):
        settled_from([1.0] * 8, period=0)
    with pytest.raises(BadValue, match="finite"):
        settled_from([math.nan] * 8)
