"""Rates and waits, by a clock that moves only when told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.checkpoint.tiers.pacing import Backoff, Pace


def test_without_a_limit_nothing_waits() -> None:
    assert Pace(None).wait_s(10**9, 0.0) == 0


@given(st.lists(st.tuples(st.integers(1, 8_000_000), st.floats(0, 3)), min_size=2, max_size=50))
def test_the_average_rate_is_never_above_the_limit(pieces: list[tuple[int, float]]) -> None:
    pace, now, limit = Pace(1_000_000), 100.0, 1_000_000
    sent, began = 0, now
    for nbytes, took in pieces:
        now += took
        now += max(pace.wait_s(nbytes, now), 0)
        sent += nbytes
        most = limit * (now - began) + pieces[0][0]  # the first may have been on its way already
        assert sent <= most + 1  # a rounding


def test_sending_slower_than_the_limit_never_waits() -> None:
    pace = Pace(1_000_000)
    assert all(pace.wait_s(1_000_000, now) <= 0 for now in (2.0, 4.0, 6.0))


def test_time_spent_sending_counts() -> None:
    assert Pace(1_000_000).wait_s(2_000_000, 10.0) == pytest.approx(0)
    pace = Pace(1_000_000)
    pace.wait_s(1_000_000, 10.0)
    assert pace.wait_s(1_000_000, 10.25) == pytest.approx(0.75)


def test_waits_double_up_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(1, 60)
    assert [backoff.failed() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    backoff.succeeded()
    assert backoff.failed() == 1
    for _ in range(2000):
        assert backoff.failed() <= 60
