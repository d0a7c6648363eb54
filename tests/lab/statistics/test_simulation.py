"""The error rates that docs/statistics.md promises, over experiments whose truth is known.

Every rate has a standard error from its number of experiments; the seeds are fixed. The slow
variants hold the same promises over more experiments.
"""

from __future__ import annotations

import pytest

from remora.lab.statistics import minimum_detectable_effect
from remora.lab.statistics.simulation import (
    DISTURBED,
    Noise,
    coverage,
    promised_power,
    raw_step_alarms,
    tail_rates,
    verdict_shares,
)

BLOCKS = (5, 10, 20)


@pytest.mark.parametrize("effect", [0.02, 0.05, 0.20])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_intervals_hold_the_injected_overhead(blocks: int, effect: float) -> None:
    share, bias = coverage(blocks, effect, 3000 if blocks < 20 else 1000)
    assert 0.93 <= share <= 0.97
    assert abs(bias) < 0.003


def test_the_bootstrap_covers_at_40_blocks() -> None:
    share, _ = coverage(40, 0.05, 1000)
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize("blocks", [5, 20])
def test_disturbed_trials_do_not_make_intervals_too_short(blocks: int) -> None:
    share, _ = coverage(blocks, 0.05, 1000, noise=DISTURBED)
    assert share >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("arms", [1, 6])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_native_against_native_is_seldom_called_different(blocks: int, arms: int) -> None:
    shares = verdict_shares(blocks, 0.0, 600 if blocks < 20 else 400, arms=arms)
    assert shares["costs"] + shares["gains"] <= 0.05


@pytest.mark.parametrize("arms", [1, 6])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_cost_of_exactly_the_margin_is_seldom_called_none(blocks: int, arms: int) -> None:
    experiments = 1500 if blocks < 20 else 300
    shares = verdict_shares(blocks, 0.05, experiments, arms=arms, margin=0.05)
    # 5 %, and two standard errors of the share counted.
    assert shares["no cost"] <= 0.05 + 2 * (0.05 * 0.95 / experiments) ** 0.5


@pytest.mark.parametrize("blocks", BLOCKS)
def test_the_promised_effect_is_told_as_often_as_promised(blocks: int) -> None:
    _, told = promised_power(blocks, 2000 if blocks < 20 else 800)
    assert 0.77 <= told <= 0.84


def test_the_promise_holds_in_the_margin_too() -> None:
    # So quiet that the smallest visible effect lies well within the margin, where it is no cost.
    quiet = Noise(between=0.005, within=0.02)
    effect, told = promised_power(10, 1000, margin=0.05, noise=quiet)
    assert effect > 3 * minimum_detectable_effect(quiet.ratio_sd, 10)
    assert 0.77 <= told <= 0.84


def test_a_test_over_raw_steps_would_alarm_all_the_time() -> None:
    assert raw_step_alarms(500) > 0.4
    assert raw_step_alarms(500, noise=Noise(between=0.0)) < 0.09


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_valid_tails_are_seldom_wrong(quantile: float) -> None:
    noise = Noise(between=0.01, within=0.03, steps=200)
    valid, wrong = tail_rates(10, quantile, 400, noise=noise)
    assert valid > 0.9
    assert wrong <= 0.075


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [*BLOCKS, 40])
def test_promises_over_many_experiments(blocks: int) -> None:
    share, bias = coverage(blocks, 0.05, 8000)
    assert 0.94 <= share <= 0.965
    assert abs(bias) < 0.001
    alarms = verdict_shares(blocks, 0.0, 4000)
    assert alarms["costs"] + alarms["gains"] <= 0.05
    _, told = promised_power(blocks, 4000)
    assert told >= 0.78
