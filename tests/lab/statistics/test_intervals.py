"""Ratios, intervals and p-values against scipy and against themselves."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from remora.core.errors import BadValue
from remora.lab.statistics import (
    log_ratios,
    mean_interval,
    mean_ratio,
    noise_floor,
    p_value,
    recovered,
)
from remora.lab.statistics.equivalence import equivalence_p
from remora.lab.statistics.pivot import one_sample

logs = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=30)
times = st.lists(
    st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=2, max_size=19, unique=True
)


def draw(count: int, mean: float = 0.03, sd: float = 0.04, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, count)


@pytest.mark.parametrize("count", [2, 5, 10, 19])
def test_below_20_blocks_the_interval_and_p_are_students(count: int) -> None:
    values = draw(count)
    interval = mean_interval(values)
    assert interval is not None
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert interval.low == pytest.approx(math.exp(low))
    assert interval.high == pytest.approx(math.exp(high))
    assert interval.method == "t on log ratios"
    assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("count", [20, 60, 200])
def test_from_20_blocks_the_bootstrap_agrees_with_t_on_normal_data(count: int) -> None:
    values = draw(count, mean=0.0)
    interval = mean_interval(values)
    assert interval is not None
    assert interval.method == "bootstrap-t on log ratios"
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert np.log([interval.low, interval.high]) == pytest.approx(
        [low, high], abs=0.1 * (high - low)
    )
    assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_the_bootstrap_repeats_with_its_seed_and_moves_with_another() -> None:
    values = draw(25)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_the_bootstrap_of_200_blocks_is_quick() -> None:
    values, best = draw(200), math.inf
    for _ in range(5):
        began = time.process_time()
        mean_interval(values)
        best = min(best, time.process_time() - began)
    assert best < 0.25


@given(logs, st.floats(-0.3, 0.3), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_p_is_below_alpha_exactly_where_the_interval_excludes(
    values: list[float], null: float, level: float
) -> None:
    pivot = one_sample(np.array(values), 0)
    low, high = pivot.interval(level)
    if min(abs(null - low), abs(null - high)) > 1e-9:
        assert (pivot.p_two_sided(null) < 1 - level - 1e-12) == (not low <= null <= high)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_bootstraps_p_and_interval_change_sides_at_the_same_draw(level: float) -> None:
    pivot = one_sample(draw(24), 0)
    assert pivot.resampled is not None
    middle = round(level * pivot.resampled.size)
    low, high = pivot.interval(level)
    for place in range(middle - 4, middle + 4):
        between = pivot.resampled[place : place + 2].mean()
        null = pivot.mean + float(between) * pivot.standard_error
        assert (pivot.p_two_sided(null) < 1 - level - 1e-12) == (not low <= null <= high)


@given(logs, st.floats(0.001, 1))
def test_equivalence_holds_exactly_where_the_90_percent_interval_is_within(
    values: list[float], margin: float
) -> None:
    pivot = one_sample(np.array(values), 0)
    low, high = pivot.interval(0.90)
    bound = math.log1p(margin)
    if min(abs(low + bound), abs(high - bound)) > 1e-9:
        within = -bound < low and high < bound
        assert (equivalence_p(pivot, margin) < 0.05 - 1e-12) == within


@given(times, st.floats(1e-6, 1e6))
def test_the_unit_of_time_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    arm, native = np.array(pairs).T
    scaled = log_ratios(arm * unit, native * unit)
    assert scaled == pytest.approx(log_ratios(arm, native), abs=1e-12)


@given(logs)
def test_exchanging_the_arms_inverts_the_ratio_and_keeps_the_p_value(values: list[float]) -> None:
    forth, back = mean_interval(values), mean_interval([-value for value in values])
    assert forth is not None
    assert back is not None
    assert (back.low, back.high) == pytest.approx((1 / forth.high, 1 / forth.low))
    assert p_value(values) == pytest.approx(p_value([-value for value in values]))


@given(logs, st.floats(0.001, 1))
def test_slower_arms_have_larger_ratios_and_bounds(values: list[float], more: float) -> None:
    before, after = mean_interval(values), mean_interval([value + more for value in values])
    assert before is not None
    assert after is not None
    assert after.low > before.low
    assert after.high > before.high


def test_none_and_one_block_give_no_interval_and_no_p() -> None:
    assert (mean_ratio([]), mean_interval([]), p_value([]), noise_floor([])) == (None,) * 4
    assert mean_ratio([math.log(1.1)]) == pytest.approx(1.1)
    assert (mean_interval([0.1]), p_value([0.1]), noise_floor([0.1])) == (None,) * 3


def test_without_variance_the_interval_is_a_point() -> None:
    same = log_ratios(1.05 * np.arange(1, 8), np.arange(1, 8))
    interval = mean_interval(same)
    assert interval is not None
    assert interval.low == interval.high == pytest.approx(1.05)
    assert interval.method == "no variance on log ratios"
    assert p_value(same) == 0.0
    assert p_value(np.zeros(5)) == 1.0


def test_one_strange_block_among_equal_ones_leaves_t_where_the_bootstrap_has_no_tail() -> None:
    interval = mean_interval([0.0] * 24 + [0.5])
    assert interval is not None
    assert interval.method == "t on log ratios"
    assert math.isfinite(interval.high)


def test_enormous_ratios_stay_finite() -> None:
    interval = mean_interval([1.0, 300.0])
    assert interval is not None
    assert math.isfinite(interval.high)


@pytest.mark.parametrize(
    ("arm", "native"), [([1, 2], [1]), ([0, 1], [1, 1]), ([1, math.nan], [1, 1]), ([[1]], [[1]])]
)
def test_what_has_no_ratio_is_refused(arm: list[float], native: list[float]) -> None:
    with pytest.raises(BadValue):
        log_ratios(arm, native)


def test_the_floor_is_the_larger_overhead_the_interval_allows() -> None:
    floor = noise_floor([-0.05, -0.01, -0.03, -0.04])
    assert floor is not None
    assert floor.floor == 1 - floor.interval.low
    assert floor.ratio == pytest.approx(math.exp(-0.0325))
    turned = noise_floor([0.05, 0.01, 0.03, 0.04])
    assert turned is not None
    assert turned.floor == turned.interval.high - 1


def test_recovered_is_whether_the_interval_holds_the_injection() -> None:
    interval = mean_interval(np.log([1.04, 1.05, 1.06]))
    assert recovered(interval, 0.05)
    assert not recovered(interval, 0.20)
    assert not recovered(None, 0.05)
