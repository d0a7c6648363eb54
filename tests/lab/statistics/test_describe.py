"""Spread, outliers, tails, effect sizes and Holm against definitions and references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from remora.core.errors import BadValue
from remora.lab.statistics import cliffs_delta, hedges_g, holm, outliers, spread, tail
from remora.lab.statistics.tails import (
    effective_steps,
    fewest_steps,
    intraclass_correlation,
    order_ranks,
)

whole = st.lists(st.integers(1, 20).map(float), min_size=1, max_size=15)


def test_spread_describes_and_one_value_has_no_deviation() -> None:
    found = spread([1, 2, 3, 10])
    assert (found.count, found.mean, found.median, found.min, found.max) == (4, 4, 2.5, 1, 10)
    assert found.std == pytest.approx(np.std([1, 2, 3, 10], ddof=1))
    assert spread([5]).std is None
    with pytest.raises(BadValue, match="at least one"):
        spread([])


def test_outliers_are_counted_beyond_three_scaled_mads() -> None:
    # Median 10, MAD 1: the limit is 3 × 1.4826 = 4.45 away.
    assert outliers([8, 9, 9, 10, 10, 11, 11, 14.4]) == 0
    assert outliers([8, 9, 9, 10, 10, 11, 11, 14.5, 5.5]) == 2
    assert outliers([]) == 0
    assert outliers([3, 3, 3, 3, 4]) == 1


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [400, 1001])
def test_ranks_are_those_of_the_binomial_test(quantile: float, count: int) -> None:
    values = np.arange(1, count + 1)
    expected: Any = stats.quantile_test(values, p=quantile).confidence_interval(0.95)
    assert order_ranks(count, quantile) == (expected.low, expected.high)


@pytest.mark.parametrize(("quantile", "fewest"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_one_step_fewer_than_needed_has_no_bound(quantile: float, fewest: int) -> None:
    assert fewest_steps(quantile) == fewest
    assert order_ranks(fewest, quantile) is not None
    assert order_ranks(fewest - 1, quantile) is None


def test_a_tail_without_enough_steps_is_invalid_and_carries_no_number() -> None:
    rng = np.random.default_rng(0)
    found = tail([rng.exponential(size=30) for _ in range(10)], 0.99)
    assert not found.valid
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason.startswith("p99 needs at least 368 independent steps; there are ")
    assert tail([[1.0, 2.0]], 0.5).reason == "p50 needs at least 2 trials; there is 1"
    assert tail([], 0.5).reason == "p50 needs at least 2 trials; there are 0"


def test_a_valid_tail_brackets_its_value_and_scales_with_the_unit() -> None:
    rng = np.random.default_rng(0)
    trials = [rng.exponential(size=500) for _ in range(10)]
    found, scaled = tail(trials, 0.95), tail([1000 * steps for steps in trials], 0.95)
    assert found.valid
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert scaled.value == 1000 * found.value
    assert (scaled.low, scaled.high) == (1000 * found.low, 1000 * found.high)


def test_steps_of_alike_processes_count_fully_and_of_unlike_ones_hardly() -> None:
    rng = np.random.default_rng(0)
    alike = [rng.random(200) < 0.5 for _ in range(30)]
    unlike = [np.full(200, trial % 2 == 0) for trial in range(30)]
    assert effective_steps(alike) > 0.7 * 6000
    assert effective_steps(unlike) < 31
    assert intraclass_correlation([np.array([1.0, 1.0]), np.array([2.0, 2.0])]) == 1.0


def test_few_trials_count_less_since_they_cannot_show_that_they_are_alike() -> None:
    rng = np.random.default_rng(0)
    three = effective_steps([rng.random(2000) < 0.5 for _ in range(3)])
    # Student's t with two degrees of freedom is 4.3 where the normal is 1.96.
    assert three <= 6000 * (1.96 / 4.30) ** 2 * 1.01


def test_intraclass_correlation_of_a_worked_example() -> None:
    # Three groups of two: mean squares 8 between and 0.5 within, so (8 − 0.5) / (8 + 0.5).
    groups = [np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])]
    assert intraclass_correlation(groups) == pytest.approx(7.5 / 8.5)


@given(whole, whole)
def test_cliffs_delta_is_the_dominance_over_all_pairs(arm: list[float], base: list[float]) -> None:
    pairs = [(a > b) - (a < b) for a in arm for b in base]
    assert cliffs_delta(arm, base) == pytest.approx(sum(pairs) / len(pairs))
    assert cliffs_delta(base, arm) == pytest.approx(-sum(pairs) / len(pairs))


def test_hedges_g_of_a_worked_example_and_of_too_little() -> None:
    arm, native = np.exp([2.0, 3.0, 4.0]), np.exp([1.0, 2.0, 3.0])
    # Difference 1, pooled deviation 1, four degrees of freedom: Γ(2) / (√2 Γ(3/2)).
    assert hedges_g(arm, native) == pytest.approx(1 / (math.sqrt(2) * math.gamma(1.5)))
    assert hedges_g(native, arm) == pytest.approx(-1 / (math.sqrt(2) * math.gamma(1.5)))
    assert hedges_g([1.0], [1.0, 2.0]) is None
    assert hedges_g([2.0, 2.0], [1.0, 1.0]) is None
    assert cliffs_delta([], [1.0]) is None


def test_holm_of_a_worked_example_leaves_none_alone() -> None:
    # 0.01 × 4, 0.02 × 3, then 0.03 × 2 and 0.04 held up by the one before.
    adjusted = holm([0.04, None, 0.01, 0.03, 0.02])
    assert adjusted[1] is None
    assert [p for p in adjusted if p is not None] == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(BadValue):
        holm([1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_and_bonferroni_and_keeps_their_order(values: list[float]) -> None:
    adjusted = [p for p in holm(list(values)) if p is not None]
    for raw, corrected in zip(values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, len(values) * raw)
    by_raw = [corrected for _, corrected in sorted(zip(values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)
