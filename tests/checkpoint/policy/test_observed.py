"""The tuner in a simulated training loop: it keeps its limits, reacts, recovers, and stays calm."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.checkpoint.policy.simulation import Simulation, often

from remora.checkpoint.policy import Tuner, Wanted, Written
from remora.checkpoint.policy.bandwidth import RECENT, WINDOW, BusyTime, Sustained
from remora.checkpoint.policy.interval import whole
from remora.checkpoint.policy.observed import (
    AGAIN_QUIET,
    FIRST_QUIET,
    PATIENCE,
    STALE,
    WARM_UP,
)
from remora.core.errors import BadValue

STATE = 480_000_000
TOLERANCE = 0.005
"""Overhead beyond the limit that noise may hide: half a point."""


def simulation(wanted: Wanted | None = None, **changes: Any) -> Simulation:
    return Simulation(Tuner(wanted or often(), STATE), **changes)


def written(busy_s: float, latency_s: float | None = None) -> Written:
    return Written(size=STATE, busy_s=busy_s, latency_s=latency_s or busy_s)


# ---------------------------------------------------------------- beginning


def test_it_learns_what_a_step_takes_before_the_first_checkpoint() -> None:
    tuner = Tuner(Wanted(), STATE)
    due = [tuner.step(0.25, busy=False) for _ in range(WARM_UP + FIRST_QUIET)]
    assert due == [False] * (WARM_UP + FIRST_QUIET - 1) + [True]
    assert tuner.every is None


def test_while_it_learns_one_checkpoint_at_a_time_is_under_way() -> None:
    tuner = Tuner(Wanted(), STATE)
    while not tuner.step(0.25, busy=False):
        pass
    assert not any(tuner.step(0.25, busy=True) for _ in range(20))
    # WHEN it is durable
    choice = tuner.durable(written(0.96))
    # THEN the interval is chosen: 4 steps of 0.25 s, a tenth added and rounded up
    assert choice is not None
    assert (choice.every, tuner.every, tuner.changes) == (5, 5, 0)


def test_the_first_steps_are_no_baseline() -> None:
    tuner = Tuner(Wanted(), STATE)
    for _ in range(WARM_UP):
        tuner.step(30.0, busy=False)
    while not tuner.step(0.25, busy=False):
        pass
    tuner.durable(written(0.96))
    measured = tuner.measured()
    assert measured is not None
    assert measured.step_s == 0.25


def test_a_checkpoint_is_due_every_so_many_steps() -> None:
    run = simulation(step_jitter=0.0, disk_jitter=0.0)
    run.run(200)
    assert run.tuner.every == 5
    assert set(_gaps(run.taken)[2:]) == {5}
    assert run.skipped == 0


def _gaps(steps: list[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(steps)]


# ---------------------------------------------------------------- limits

loops = {
    "step_s": st.floats(0.02, 2.0),
    "mb_s": st.floats(100, 4000),
    "step_jitter": st.floats(0, 0.05),
    "disk_jitter": st.floats(0, 0.25),
    "theft": st.floats(0, 0.2),
    "stall": st.floats(0, 0.5),
    "seed": st.integers(0, 10**6),
}


@settings(max_examples=15, deadline=None)
@given(**loops, max_overhead=st.floats(0.01, 0.1))
def test_once_adapted_the_overhead_is_kept(
    step_s: float,
    mb_s: float,
    step_jitter: float,
    disk_jitter: float,
    theft: float,
    stall: float,
    seed: int,
    max_overhead: float,
) -> None:
    run = simulation(
        often(max_overhead=max_overhead),
        step_s=step_s,
        bytes_s=lambda step: mb_s * 1e6,
        step_jitter=step_jitter,
        disk_jitter=disk_jitter,
        theft=theft,
        stall_s=stall * step_s,
        seed=seed,
    )
    run.run(1500)
    assert run.overhead(1500) <= max_overhead + TOLERANCE


@settings(max_examples=25, deadline=None)
@given(**loops)
def test_it_never_asks_storage_for_more_than_it_gives(
    step_s: float,
    mb_s: float,
    step_jitter: float,
    disk_jitter: float,
    theft: float,
    stall: float,
    seed: int,
) -> None:
    run = simulation(
        step_s=step_s,
        bytes_s=lambda step: mb_s * 1e6,
        step_jitter=step_jitter,
        disk_jitter=disk_jitter,
        theft=theft,
        stall_s=stall * step_s,
        seed=seed,
    )
    run.run(300)
    needed_s = STATE / (mb_s * 1e6)
    # The mean of WINDOW jittering writes is itself this uncertain, at three standard errors.
    doubt = max(0.0, 3 * disk_jitter / math.sqrt(WINDOW) - 0.14)
    for _ in range(1000):
        run.run(1)
        if run.tuner.every and run.reports >= WINDOW:
            assert run.tuner.every * step_s * 1.1 >= needed_s * (1 - doubt)


reports = st.tuples(st.floats(1e-3, 100), st.floats(0, 300), st.booleans(), st.floats(0, 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(reports, max_size=60))
def test_whatever_it_is_told_its_choice_keeps_its_own_limits(
    told: list[tuple[float, float, bool, float]],
) -> None:
    tuner = Tuner(often(), STATE)
    for _ in range(20):
        tuner.step(0.25, busy=False)
    for busy_s, latency_s, busy, stall_s in told:
        tuner.step(0.25 + stall_s, busy=busy, stall_s=stall_s)
        choice = tuner.durable(Written(size=STATE, busy_s=busy_s, latency_s=latency_s))
        assert choice is not None
        assert choice.every >= whole(choice.bounds.hard)
        assert choice.expected_overhead <= tuner.wanted.max_overhead * (1 + 1e-9)


# ---------------------------------------------------------------- slow storage


def ten_times_slower(first: int, last: int) -> Simulation:
    return simulation(bytes_s=lambda step: 50e6 if first <= step < last else 500e6)


def test_it_reacts_to_storage_ten_times_slower_within_a_few_checkpoints() -> None:
    run = ten_times_slower(1000, 10**9)
    run.run(1000)
    before = run.reports
    while (run.tuner.every or 0) * run.step_s < STATE / 50e6:
        run.run(1)
        # Those that were under way are counted, then two slow ones are believed.
        assert run.reports <= before + run.in_flight + RECENT, "it did not react"
    # THEN it asks for what storage gives, and nothing more is skipped
    run.run(200)
    skipped = run.skipped
    run.run(2000)
    assert run.skipped == skipped


def test_it_recovers_when_storage_heals() -> None:
    run = ten_times_slower(1000, 3000)
    run.run(1000)
    quick = run.tuner.every or 0
    run.run(2000)
    assert (run.tuner.every or 0) >= 10 * quick * 0.7
    before = run.reports
    while (run.tuner.every or 0) > 1.3 * quick:
        run.run(1)
        bound = before + run.in_flight + WINDOW + 2 * PATIENCE
        assert run.reports <= bound, "it did not recover"


def test_a_burst_is_not_what_lasts() -> None:
    # GIVEN a cache that takes every fifth checkpoint three times as fast
    tuner = Tuner(often(), STATE)
    for _ in range(20):
        tuner.step(0.25, busy=False)
    for n in range(100):
        tuner.durable(written(0.32 if n % 5 == 0 else 0.96))
    # THEN the rate is bytes over seconds, and nowhere near the best one
    measured = tuner.measured()
    assert measured is not None
    assert measured.sustained_write_bytes_s < STATE / 0.96 * 1.25


# ---------------------------------------------------------------- staying calm


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.05, 20.0),
    st.lists(st.floats(0.95, 1.05), min_size=50, max_size=300),
)
def test_five_percent_of_jitter_does_not_make_it_flap(busy_s: float, jitter: list[float]) -> None:
    tuner = Tuner(often(), STATE)
    for _ in range(20):
        tuner.step(0.25, busy=False)
    for factor in jitter:
        tuner.durable(written(busy_s * factor, latency_s=0.1))
    assert tuner.changes <= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_free_checkpoint_stays_free_in_noise(seed: int) -> None:
    run = simulation(Wanted(), step_jitter=0.05, disk_jitter=0.2, seed=seed)
    run.run(200)
    before = len(run.changes)
    run.run(4000)
    assert len(run.changes) - before <= run.reports / 50
    gaps = _gaps(run.taken)
    assert statistics.median(gaps) <= 7


def test_the_same_timings_give_the_same_choices() -> None:
    first, second = simulation(theft=0.05, stall_s=0.01), simulation(theft=0.05, stall_s=0.01)
    first.run(1000)
    second.run(1000)
    assert first.changes == second.changes
    assert first.taken == second.taken


def test_a_baseline_that_no_quiet_step_renews_is_taken_again() -> None:
    tuner = Tuner(often(), STATE)
    for _ in range(20):
        tuner.step(0.25, busy=False)
    tuner.durable(written(0.1))
    # GIVEN steps that are always busy, and a program whose steps have become twice as long
    due = [tuner.step(0.5, busy=True) for _ in range(STALE)]
    assert all(due[:-1])
    # WHEN the baseline is stale THEN no checkpoint is due until it was taken anew
    assert not any(tuner.step(0.5, busy=False) for _ in range(AGAIN_QUIET - 1))
    assert tuner.step(0.5, busy=False)


# ---------------------------------------------------------------- its parts


def test_overlapping_writes_are_counted_once() -> None:
    busy = BusyTime()
    busy.began(1.0)
    busy.began(2.0)
    busy.ended(3.0)
    assert busy.take(4.0) == 3.0
    busy.ended(6.0)
    busy.began(7.0)
    busy.ended(7.5)
    assert busy.take(9.0) == 2.5
    assert busy.take(10.0) == 0.0


def test_a_clear_slow_down_is_believed_at_once_and_its_end_late() -> None:
    sustained = Sustained()
    for _ in range(WINDOW):
        sustained.add(100, 1.0)
    assert sustained.bytes_s() == 100
    for _ in range(RECENT):
        sustained.add(100, 10.0)
    assert sustained.bytes_s() == 10
    for _ in range(WINDOW - 1):
        sustained.add(100, 1.0)
    assert (sustained.bytes_s() or 0) < 60
    sustained.add(100, 1.0)
    assert sustained.bytes_s() == 100


@pytest.mark.parametrize(
    "told",
    [{"size": 0}, {"busy_s": 0.0}, {"busy_s": math.inf}, {"latency_s": -1.0}],
    ids=["size", "no time", "endless", "latency"],
)
def test_a_write_that_cannot_be_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match="not a write"):
        Written(**({"size": STATE, "busy_s": 1.0, "latency_s": 1.0} | told))


@pytest.mark.parametrize(("seconds", "stall_s"), [(1.0, 1.1), (-1.0, 0.0), (math.inf, 0.0)])
def test_a_step_that_cannot_be_is_refused(seconds: float, stall_s: float) -> None:
    with pytest.raises(BadValue, match="cannot have waited"):
        Tuner(Wanted(), STATE).step(seconds, busy=False, stall_s=stall_s)


def test_a_state_without_bytes_is_refused() -> None:
    with pytest.raises(BadValue, match="state_bytes=0"):
        Tuner(Wanted(), 0)
