"""Time, passed in rather than read, so that tests can hold it still."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the lab reads time from."""

    def wall_ns(self) -> int:
        """Monotonic nanoseconds."""
        ...

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU that this process, all its threads, has used."""
        ...


class SystemClock:
    """The machine's own clock."""

    def wall_ns(self) -> int:
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        return time.process_time_ns()


class ManualClock:
    """A clock that moves only when told: for tests."""

    def __init__(self, start_ns: int = 0) -> None:
        self.now_ns = start_ns

    def advance(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds

    def wall_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.now_ns


def now_of(clock: Clock) -> Callable[[], int]:
    """``clock.wall_ns``, without a call between for the machine's own: for hot paths."""
    return time.perf_counter_ns if type(clock) is SystemClock else clock.wall_ns
