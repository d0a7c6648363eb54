"""Verdicts, their sentences, comparisons of two sets, and plans."""

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
    blocks_for_no_cost,
    blocks_needed,
    blocks_to_tell,
    compare,
    compare_table,
    decide,
    judge,
    judge_table,
    minimum_detectable_effect,
    planning_sd,
    power,
    power_of_no_cost,
    sentence,
)
from remora.lab.statistics.planning import experiments

QUIET = np.array([-0.004, 0.003, 0.001, -0.002, 0.002, 0.001])
"""An A/A arm whose floor is 0.3 %."""


def around(ratio: float, spread: float = 1.0) -> np.ndarray:
    return np.asarray(math.log(ratio) + spread * (QUIET - QUIET.mean()))


@pytest.mark.parametrize(
    ("ratio", "p", "outside", "floor", "verdict"),
    [
        (1.10, 0.01, 0.90, 0.02, "costs"),
        (0.90, 0.01, 0.90, 0.02, "gains"),
        (1.10, 0.06, 0.90, 0.02, "undecided"),
        (1.02, 0.01, 0.90, 0.03, "undecided"),
        (1.10, 0.01, 0.90, None, "undecided"),
        (1.01, 0.50, 0.01, 0.02, "no cost"),
        (1.01, 0.01, 0.01, 0.001, "no cost"),
        (None, None, None, 0.02, "undecided"),
    ],
)
def test_each_verdict_has_its_conditions(
    ratio: float | None, p: float | None, outside: float | None, floor: float | None, verdict: str
) -> None:
    assert decide(ratio, p, outside, floor) == verdict


@pytest.mark.parametrize(
    ("ratio", "spread", "wanted", "words"),
    [
        (1.124, 5, None, "costs 12.4 % (95 % interval 10.9 to 14.0 %; noise floor 0.3 %)"),
        (0.9, 5, None, "gains 10.0 % (95 % interval 8.7 to 11.2 %; noise floor 0.3 %)"),
        (9.5, 1, None, "costs 850 % (95 % interval 847 to 853 %; noise floor 0.3 %)"),
        (1.004, 1, 9, "no cost within ±2 %: 0.4 % (95 % interval 0.1 to 0.7 %; noise floor 0.3 %)"),
        (1.017, 10, 14, "undecided: −1.1 to 4.6 %; 14 blocks would tell a cost of 2 %"),
        (1.017, 10, 6, "undecided: −1.1 to 4.6 %"),
    ],
)
def test_sentences_carry_the_numbers(
    ratio: float, spread: float, wanted: int | None, words: str
) -> None:
    assert sentence(judge(around(ratio, spread), QUIET, 0.02), wanted) == words


def test_a_difference_below_the_floor_is_not_claimed_and_says_so() -> None:
    judged = judge(around(1.03), 20 * QUIET, 0.02)
    assert judged.verdict == "undecided"
    assert sentence(judged) == (
        "undecided: 3.0 % (2.7 to 3.3 %) is not above the noise floor of 6.0 %"
    )


def test_without_native_twice_nothing_is_claimed() -> None:
    judged = judge(around(1.5), [], 0.02)
    assert judged.verdict == "undecided"
    assert sentence(judged).endswith("but native ran twice in fewer than two blocks")


def test_too_few_blocks_say_so() -> None:
    none, one = judge([], QUIET, 0.02), judge([0.05], QUIET, 0.02)
    assert sentence(none) == "undecided: no block holds both this arm and native"
    assert sentence(one) == "undecided: 5.1 % in a single block; an interval needs two"


def test_many_arms_make_a_chance_finding_undecided() -> None:
    barely = around(1.028, 8)
    assert judge(barely, QUIET, 0.02).verdict == "costs"
    table = {"arm": barely} | {str(place): around(1.0, 10) for place in range(9)}
    judged = judge_table(table, QUIET, 0.02)["arm"]
    assert judged.verdict == "undecided"
    assert "not beyond chance among 10 arms" in sentence(judged)


def test_arms_without_blocks_do_not_count_in_the_correction() -> None:
    table = {"arm": around(1.1, 5), "failed": np.array([])}
    judged = judge_table(table, QUIET, 0.02)
    assert judged["arm"].p_holm == judged["arm"].p_value
    assert judged["failed"].verdict == "undecided"
    assert judged["arm"].arms == 1


@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=12), st.floats(0.005, 0.2))
def test_exchanging_the_arms_exchanges_the_claim_of_equivalence(
    values: list[float], margin: float
) -> None:
    forth = judge(values, QUIET, margin)
    back = judge([-value for value in values], QUIET, margin)
    assert forth.p_outside == pytest.approx(back.p_outside)


@pytest.mark.parametrize("margin", [0, -0.1, math.inf])
def test_a_margin_must_be_a_positive_share(margin: float) -> None:
    with pytest.raises(BadValue, match="margin"):
        judge(QUIET, QUIET, margin)


def test_comparison_is_welchs() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.normal(0, 0.02, 8), rng.normal(0.1, 0.05, 11)
    found = compare(before, after, 0.02)
    expected = stats.ttest_ind(after, before, equal_var=False)
    bounds = expected.confidence_interval(0.95)
    assert found.verdict == "worse"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval is not None
    assert np.log([found.interval.low, found.interval.high]) == pytest.approx(tuple(bounds))
    assert compare(after, before, 0.02).verdict == "better"


def test_comparison_knows_same_undecided_and_the_floor() -> None:
    assert compare(QUIET, QUIET + 0.001, 0.02).verdict == "same"
    assert compare(QUIET, 20 * QUIET, 0.02).verdict == "undecided"
    assert compare(QUIET, [0.1], 0.02).verdict == "undecided"
    assert compare(QUIET, QUIET + 0.05, 0.02).verdict == "worse"
    assert compare(QUIET, QUIET + 0.05, 0.02, floor=0.06).verdict == "undecided"


def test_comparison_of_many_arms_is_corrected() -> None:
    pairs = {str(place): (QUIET, QUIET + 0.05) for place in range(3)}
    found = compare_table(pairs, 0.02)["0"]
    assert found.p_value is not None
    assert found.p_holm == pytest.approx(3 * found.p_value)


def test_planning_deviation_is_the_upper_confidence_limit() -> None:
    # Four degrees of freedom: χ² exceeds 1.6488 in 80 % of samples.
    values = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert planning_sd(values) == pytest.approx(math.sqrt(10 / 1.6488), rel=1e-4)
    assert planning_sd([0.1]) is None
    assert planning_sd() is None


def test_the_noise_of_several_workloads_is_pooled() -> None:
    one, other = [1.0, 2.0, 3.0], [11.0, 14.0, 17.0]  # variances 1 and 9, pooled 5
    assert planning_sd(one, other) == pytest.approx(math.sqrt(4 * 5 / 1.6488), rel=1e-4)
    assert planning_sd(one, [7.0]) == planning_sd(one)


def test_drawn_experiments_are_those_of_two_arms_over_one_native() -> None:
    native, arm, again = np.random.default_rng(3).normal(0, math.sqrt(0.5), (3, 20_000, 6))
    logs = np.stack([arm - native, again - native])
    means, squares = logs.mean(axis=2), logs.var(axis=2, ddof=1) / 6
    drawn = experiments(6)
    for ours, real in (
        (np.stack([drawn.arm_mean, drawn.again_mean]), means),
        (np.stack([drawn.arm_error, drawn.again_error]) ** 2, squares),
    ):
        assert ours.mean(axis=1) == pytest.approx(real.mean(axis=1), abs=0.01)
        assert np.cov(ours) == pytest.approx(np.cov(real), rel=0.06, abs=6e-4)


def test_plans_agree_with_one_another() -> None:
    effect = minimum_detectable_effect(0.03, 10, margin=0.02)
    assert power(effect, 0.03, 10, margin=0.02) == pytest.approx(0.8, abs=0.001)
    needed = blocks_needed(effect * 1.001, 0.03, margin=0.02)
    assert needed == 10
    enough = blocks_for_no_cost(0.03, 0.03)
    assert enough is not None
    assert power_of_no_cost(0.03, 0.03, enough) >= 0.8
    assert power_of_no_cost(0.03, 0.03, enough - 1) < 0.8


def test_more_blocks_less_noise_and_fewer_arms_tell_smaller_effects() -> None:
    plan = minimum_detectable_effect(0.03, 10)
    assert minimum_detectable_effect(0.03, 20) < plan
    assert minimum_detectable_effect(0.01, 10) < plan
    assert minimum_detectable_effect(0.03, 10, arms=6) > plan
    # The noise floor makes it larger than the t test alone, whose MDE here is 3.0 %.
    assert plan > 0.032


def test_what_cannot_be_told_is_none_or_refused() -> None:
    assert blocks_needed(0.0001, 0.05) is None
    assert blocks_needed(0.01, 0.03, margin=0.02) is None
    assert blocks_to_tell(0.02, [0.1]) is None
    with pytest.raises(BadValue, match="at least 2 blocks"):
        minimum_detectable_effect(0.03, 1)
    with pytest.raises(BadValue, match="positive share"):
        power(0.0, 0.03, 5)
    with pytest.raises(BadValue, match="finite"):
        blocks_needed(0.02, math.nan)


def test_planning_is_quick() -> None:
    began = time.process_time()
    blocks_needed(0.02, 0.0301, margin=0.02, arms=3)
    assert time.process_time() - began < 1.0
