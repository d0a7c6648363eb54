"""The formulas, against published values, brute force and simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.policy.interval import (
    daly_interval_s,
    expected_lost_s,
    slowdown,
    whole,
    young_interval_s,
)

MINUTE = 60.0


@pytest.mark.parametrize(
    ("mtbf_min", "published_min"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)], ids=str
)
def test_dalys_own_examples(mtbf_min: float, published_min: float) -> None:
    # GIVEN a dump of 5 minutes, as in figures 3 to 5 of Daly 2006
    found = daly_interval_s(5 * MINUTE, mtbf_min * MINUTE) / MINUTE
    assert found == pytest.approx(published_min, abs=0.5 if published_min > 10 else 0.05)


def test_young_is_the_first_order_of_daly() -> None:
    cost_s, mtbf_s = 1e-4, 1e5
    young = young_interval_s(cost_s, mtbf_s)
    assert young == pytest.approx(math.sqrt(20))
    assert daly_interval_s(cost_s, mtbf_s) == pytest.approx(young, rel=1e-3)


def test_what_is_free_is_done_as_often_as_can_be() -> None:
    assert daly_interval_s(0, 3600) == 0


@settings(deadline=None)
@given(cost_s=st.floats(1e-4, 1e3), mtbf_s=st.floats(1.0, 1e6))
def test_no_other_interval_is_noticeably_better(cost_s: float, mtbf_s: float) -> None:
    found = slowdown(daly_interval_s(cost_s, mtbf_s), cost_s, mtbf_s)
    for exponent in range(-12, 13):
        other = daly_interval_s(cost_s, mtbf_s) * 1.3**exponent
        # Where a checkpoint costs more than failures are apart the series is less exact.
        tolerance = 1e-3 if cost_s < mtbf_s / 2 else 0.2
        assert found <= slowdown(other, cost_s, mtbf_s) * (1 + tolerance)


def test_the_slowdown_is_that_of_a_simulated_job() -> None:
    # GIVEN 20,000 intervals of work, failures as a Poisson process, a restart that takes no time
    work_s, cost_s, mtbf_s, rng = 30.0, 4.0, 60.0, random.Random(7)
    spent = 0.0
    for _ in range(20_000):
        while (failure := rng.expovariate(1 / mtbf_s)) < work_s + cost_s:
            spent += failure
        spent += work_s + cost_s
    assert spent / (20_000 * work_s) == pytest.approx(slowdown(work_s, cost_s, mtbf_s), rel=0.02)


def test_a_slowdown_beyond_all_numbers_is_infinite() -> None:
    assert slowdown(1e6, 1.0, 1.0) == math.inf


@pytest.mark.parametrize("latency_s", [0.0, 0.4, 1.0, 2.7])
def test_the_lost_work_is_that_of_failures_at_every_moment(latency_s: float) -> None:
    # GIVEN checkpoints of the state at 0, 1, 2, … each durable latency_s later
    # WHEN a failure comes at each of many moments
    losses = []
    for tick in range(10_000):
        failure = 10 + tick / 1000
        newest = math.floor(failure - latency_s)
        losses.append(failure - newest)
    # THEN on average what is lost is half the interval and the whole latency
    assert sum(losses) / len(losses) == pytest.approx(expected_lost_s(1.0, latency_s), abs=2e-3)


def test_a_bound_that_is_whole_but_for_a_rounding_stays() -> None:
    assert [whole(x) for x in (0, 0.2, 1, 1.0001, 4 + 1e-12, 4.1)] == [1, 1, 1, 2, 4, 5]
