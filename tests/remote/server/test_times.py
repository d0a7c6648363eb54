"""Percentiles out of little room: never too short, and at most a sixteenth too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.remote.server.times import Times


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_the_order_statistic_rounded_up(noted: list[int], share: float) -> None:
    times = Times()
    for ns in noted:
        times.note(ns)
    by_rank = next(
        value for rank, value in enumerate(sorted(noted), 1) if rank >= share * len(noted)
    )
    told = times.percentile_ns(share)
    assert by_rank <= told <= by_rank + by_rank // 16
    assert (times.count, times.most_ns, times.sum_ns) == (len(noted), max(noted), sum(noted))


def test_of_nothing_there_is_nothing() -> None:
    assert Times().told() == Times().told()
    assert Times().percentile_ns(0.99) == 0
