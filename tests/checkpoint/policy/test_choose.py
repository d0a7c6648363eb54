"""The rules, each where it decides, and what holds whatever was measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.policy import Choice, Measured, Setting, Wanted, choice_at, choose
from remora.checkpoint.policy.interval import needed_in_flight
from remora.checkpoint.policy.records import LimitedBy
from remora.core.errors import BadValue

STATE = 480_000_000
STEP = 0.255


def measured(**changes: Any) -> Measured:
    """480 MB of state and steps of 255 ms, on storage that takes 2 GB/s."""
    values: dict[str, Any] = {
        "step_s": STEP,
        "state_bytes": STATE,
        "sustained_write_bytes_s": 2e9,
        "latency_s": 0.25,
    }
    return Measured(**(values | changes))


def test_a_free_checkpoint_is_taken_every_step() -> None:
    choice = choose(measured(), Wanted())
    assert (choice.every, choice.in_flight, choice.limited_by) == (1, 2, "nothing")
    assert choice.expected_overhead == 0


def test_500_mb_s_allow_one_in_four_steps() -> None:
    choice = choose(measured(sustained_write_bytes_s=500e6, latency_s=0.96), Wanted())
    assert (choice.every, choice.limited_by) == (4, "bandwidth")
    # Half of 4 × 255 ms, and 960 ms until durable.
    assert choice.expected_lost_s == pytest.approx(0.51 + 0.96)


def test_headroom_is_left() -> None:
    exactly_four = measured(sustained_write_bytes_s=STATE / (4 * STEP))
    assert choose(exactly_four, Wanted(headroom=0)).every == 4
    assert choose(exactly_four, Wanted(headroom=0.05)).every == 5


def test_the_overhead_asked_for_is_kept() -> None:
    choice = choose(measured(cost_s=0.0255), Wanted(max_overhead=0.02, mtbf_s=1.0))
    assert (choice.every, choice.limited_by) == (5, "overhead")
    assert choice.expected_overhead == pytest.approx(0.02)


def test_a_wait_is_a_cost_even_where_the_cost_was_not_seen() -> None:
    assert choose(measured(stall_s=0.0255), Wanted(mtbf_s=1.0)).every == 5


@pytest.mark.parametrize(("mtbf_s", "every"), [(36.0, 8), (360.0, 26), (3600.0, 84)], ids=str)
def test_the_rarer_failures_the_longer_the_interval(mtbf_s: float, every: int) -> None:
    choice = choose(measured(cost_s=0.064), Wanted(max_overhead=0.5, mtbf_s=mtbf_s, negligible=0))
    assert (choice.every, choice.limited_by) == (every, "failure rate")


def test_less_than_a_negligible_overhead_is_not_striven_for() -> None:
    # Young and Daly would say every 36 steps: 0.02 % overhead, but 5 s lost instead of 1.
    every = choose(measured(stall_s=0.002), Wanted(negligible=0.001)).every
    assert every == math.ceil(0.002 / (0.001 * STEP)) == 8
    assert choose(measured(stall_s=0.002), Wanted(negligible=0)).every == 36


def test_a_latency_longer_than_the_interval_takes_more_in_flight() -> None:
    choice = choose(measured(latency_s=0.7), Wanted())
    assert (choice.every, choice.in_flight, choice.limited_by) == (1, 3, "nothing")


def test_where_more_may_not_be_in_flight_the_interval_grows() -> None:
    choice = choose(measured(latency_s=5 * STEP), Wanted(in_flight=2))
    assert (choice.every, choice.in_flight, choice.limited_by) == (3, 2, "in flight")


def test_memory_for_one_state_is_room_for_one_in_flight() -> None:
    choice = choose(measured(latency_s=3.5 * STEP), Wanted(memory_bytes=int(1.5 * STATE)))
    assert (choice.every, choice.in_flight, choice.limited_by) == (4, 1, "memory")


def test_memory_for_less_than_one_state_foresees_the_wait() -> None:
    # GIVEN storage that takes 500 MB/s and staging for 100 MB
    slow = measured(sustained_write_bytes_s=500e6, latency_s=1.0, copy_bytes_s=10e9)
    choice = choose(slow, Wanted(memory_bytes=100_000_000))
    # THEN the other 380 MB are copied at the speed of storage: 760 ms, 255 of them behind a step
    assert choice.cost_s == pytest.approx(0.01 + 0.76 - STEP)
    assert choice.expected_overhead <= 0.02


def test_a_given_interval_is_priced_and_not_judged() -> None:
    choice = choice_at(10, measured(cost_s=0.0255), Wanted(), Setting(2, 2**20))
    assert (choice.every, choice.threads, choice.chunk_bytes) == (10, 2, 2**20)
    assert choice.expected_overhead == pytest.approx(0.01)


# ---------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("choice", "limit", "words"),
    [
        (
            choose(measured(), Wanted()),
            "nothing",
            "every step (255 ms), 2 in flight, 1 thread of 16.0 MiB chunks: nothing asks for a "
            "longer interval; expect 0.00% overhead, and 378 ms lost by a failure",
        ),
        (
            choose(measured(sustained_write_bytes_s=5e8), Wanted(), Setting(2)),
            "bandwidth",
            "every 4 steps (1.0 s), 2 in flight, 2 threads of 16.0 MiB chunks: storage sustains "
            "476.8 MiB/s, so that 457.8 MiB take 4.0 steps; expect 0.00% overhead, and 1.5 s lost "
            "by a failure",
        ),
        (
            choose(measured(cost_s=0.05), Wanted(mtbf_s=1)),
            "overhead",
            "a checkpoint costs 50 ms and at most 2.00% overhead is wanted; expect 1.96%",
        ),
        (
            choose(measured(cost_s=0.05), Wanted()),
            "failure rate",
            "a checkpoint costs 50 ms and failures are 6 h 00 min apart, where this loses least",
        ),
        (
            choose(measured(stall_s=0.002), Wanted()),
            "failure rate",
            "a checkpoint costs 2 ms, and 0.10% overhead is next to nothing",
        ),
        (
            choose(measured(latency_s=1), Wanted(memory_bytes=STATE)),
            "memory",
            "457.8 MiB of staging hold 1 in flight, and each takes 1.0 s to become durable",
        ),
        (
            choose(measured(latency_s=1), Wanted(in_flight=1)),
            "in flight",
            "at most 1 may be in flight, and each takes 1.0 s to become durable",
        ),
    ],
    ids=["nothing", "bandwidth", "overhead", "failure rate", "negligible", "memory", "in flight"],
)
def test_the_reason_in_one_line(choice: Choice, limit: LimitedBy, words: str) -> None:
    assert choice.limited_by == limit
    assert words in choice.sentence()
    assert "\n" not in choice.sentence()


# ---------------------------------------------------------------- whatever was measured

facts = st.builds(
    Measured,
    step_s=st.floats(1e-3, 100),
    state_bytes=st.integers(1, 10**12),
    sustained_write_bytes_s=st.floats(1e6, 1e11),
    copy_bytes_s=st.floats(1e8, 1e11),
    stall_s=st.floats(0, 10),
    cost_s=st.floats(0, 10),
    latency_s=st.floats(0, 1e3),
)
wishes = st.builds(
    Wanted,
    max_overhead=st.floats(1e-3, 0.5),
    mtbf_s=st.floats(10, 1e7),
    memory_bytes=st.none() | st.integers(1, 10**12),
    in_flight=st.integers(1, 8),
    headroom=st.floats(0, 0.5),
    negligible=st.floats(0, 0.01),
)


@settings(deadline=None)
@given(facts, wishes)
def test_every_limit_is_respected(measured: Measured, wanted: Wanted) -> None:
    choice = choose(measured, wanted)
    every, near = choice.every, 1 + 1e-6
    seconds = every * measured.step_s
    rate = measured.sustained_write_bytes_s * (1 - wanted.headroom)
    assert measured.state_bytes / rate <= seconds * near
    assert choice.expected_overhead <= wanted.max_overhead * near
    assert 1 <= choice.in_flight <= wanted.in_flight
    assert measured.latency_s <= choice.in_flight * choice.interval_s * near
    if wanted.memory_bytes is not None:
        assert choice.in_flight * measured.state_bytes <= wanted.memory_bytes or (
            choice.in_flight == 1
        )


@settings(deadline=None)
@given(facts, wishes)
def test_two_are_in_flight_where_nothing_forbids(measured: Measured, wanted: Wanted) -> None:
    roomy = Wanted(in_flight=max(2, wanted.in_flight), mtbf_s=wanted.mtbf_s)
    assert needed_in_flight(choose(measured, roomy).interval_s, measured, roomy) >= 2


@settings(deadline=None)
@given(facts, wishes)
def test_one_step_less_breaks_a_rule_or_loses_more(measured: Measured, wanted: Wanted) -> None:
    choice = choose(measured, wanted)
    if choice.every > 1:
        bounds = choice.bounds
        assert choice.every - 1 < max(bounds.hard, bounds.failure_rate) + 1e-6
        assert choice.limited_by != "nothing"


@settings(deadline=None)
@given(facts, wishes, st.floats(1.1, 10))
def test_slower_storage_never_shortens_the_interval(
    measured: Measured, wanted: Wanted, factor: float
) -> None:
    values = {name: getattr(measured, name) for name in measured.__dataclass_fields__}
    values["sustained_write_bytes_s"] /= factor
    assert choose(Measured(**values), wanted).every >= choose(measured, wanted).every


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step_s", 0),
        ("step_s", math.nan),
        ("state_bytes", 0),
        ("sustained_write_bytes_s", -1.0),
        ("sustained_write_bytes_s", math.inf),
        ("copy_bytes_s", 0.0),
        ("stall_s", -1e-9),
        ("cost_s", math.inf),
        ("latency_s", math.nan),
    ],
)
def test_measurements_that_cannot_be_are_refused(field: str, value: float) -> None:
    with pytest.raises(BadValue, match=field):
        measured(**{field: value})


@pytest.mark.parametrize(
    "wish",
    [
        {"max_overhead": 0},
        {"mtbf_s": math.inf},
        {"memory_bytes": 0},
        {"in_flight": 0},
        {"headroom": 1.0},
        {"negligible": -0.1},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_wishes_that_cannot_be_are_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=next(iter(wish))):
        Wanted(**wish)


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadValue, match="threads"):
        Setting(threads=0)
