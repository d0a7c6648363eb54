"""A slower disk: bytes over bandwidth, one write after another, never sooner than the clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.systems.disk import Disk


@dataclass
class Time:
    """A clock that only sleeping moves; each sleep falls a little short."""

    now: float = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds / 2, 1e-3)


def _disk(mb_s: int) -> tuple[Disk, Time]:
    time = Time()
    return Disk(mb_s, time.clock, time.sleep), time


def test_without_a_limit_nothing_is_waited_for() -> None:
    disk, time = _disk(0)
    disk.wait_until(disk.accept(10**12, disk.now()))
    disk.wait_until_idle()
    assert time.now == 100.0


def test_a_write_takes_its_bytes_over_the_bandwidth() -> None:
    disk, time = _disk(200)
    assert disk.accept(100 * 10**6, began=100.0) == pytest.approx(100.5)
    disk.wait_until(100.5)
    assert 100.5 <= time.now < 100.51


def test_a_write_that_the_machine_took_longer_for_is_not_charged_twice() -> None:
    disk, time = _disk(200)
    time.now = 103.0
    disk.wait_until(disk.accept(100 * 10**6, began=100.0))
    assert time.now == 103.0


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**9)), min_size=1, max_size=20),
    st.integers(1, 5000),
)
def test_no_order_of_writes_beats_the_bandwidth(writes: list[tuple[float, int]], mb_s: int) -> None:
    """The disk is never ahead of its bandwidth from any write on, nor idle with work to do."""
    disk, _ = _disk(mb_s)
    began, durable = 100.0, 0.0
    for pause, size in writes:
        began += pause
        last, durable = durable, disk.accept(size, began)
        assert durable == pytest.approx(max(last, began) + size / (mb_s * 1e6))
    total = sum(size for _, size in writes) / (mb_s * 1e6)
    assert durable >= 100.0 + writes[0][0] + total - 1e-6


def test_a_negative_bandwidth_is_refused() -> None:
    with pytest.raises(BadValue, match="disk_mb_s=-1 is no bandwidth"):
        Disk(-1)
