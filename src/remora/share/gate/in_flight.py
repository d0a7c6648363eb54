"""How much best-effort work a device may have that it is not done with: a bound in time.

Launches are asynchronous: a job that nobody stops has a hundred milliseconds of work queued, and a
gate that shuts behind that work keeps nobody from waiting for it. So marks are put behind every so
many operators, and what lies between two of them is one stretch. How long an operator takes is
learned from the device's time between marks. Before an operator that would take what is in flight
beyond the bound, the oldest stretch is waited for. Stretches take about half the bound: so the
device has the next one to do while the job waits.

The estimate rises at once, and falls by a quarter at a time: what a step does changes between long
operators and short ones, and only one mistake costs a high-priority job anything.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from remora.core.errors import BadValue
from remora.share.gate.driver import Driver, Mark

MOST_OPERATORS = 64
"""In one stretch, however short they are: when long ones follow, that is how many go unseen."""
_FALLS_BY = 0.25


class Stretch(NamedTuple):
    """Operators between two marks."""

    mark: Mark
    operators: int


class InFlight:
    """What one best-effort job has in flight on a device.

    Args:
        bound_ns: at most, beside one operator.

    Raises:
        BadValue: a bound of nothing.
    """

    def __init__(self, driver: Driver, bound_ns: int) -> None:
        if bound_ns <= 0:
            raise BadValue(f"in-flight={bound_ns} ns: nothing would run; choose 0.1ms or more")
        self._driver, self._bound_ns = driver, bound_ns
        self._pending: deque[Stretch] = deque()
        self._pending_operators = 0
        self._issued = 0
        """Operators behind the last mark."""
        self._reached: Mark | None = None
        """The last mark that was seen to be reached: where the oldest stretch begins."""
        self._operator_ns: float | None = None

    @property
    def operator_ns(self) -> float:
        """How long an operator takes, as far as is known: all of the bound where it is not."""
        return self._bound_ns if self._operator_ns is None else self._operator_ns

    @property
    def stretch(self) -> int:
        """How many operators there are to be between two marks."""
        fitting = int(self._bound_ns / 2 / max(self.operator_ns, 1.0))
        return max(1, min(fitting, MOST_OPERATORS))

    def make_room(self) -> None:
        """An operator is to be issued: wait until there is room for it."""
        has_begun = self._reached is not None or bool(self._pending)
        if has_begun and self._issued < self.stretch and self._has_room():
            return
        if self._driver.is_capturing():
            self._forget()  # nothing is computed now, and a recording began with an idle device
            return
        if not has_begun:
            self._begin()
        elif self._issued:
            self._mark()
        while self._pending and not self._has_room():
            self._take_oldest()

    def issue(self) -> None:
        """It is issued."""
        self._issued += 1

    def pause(self) -> None:
        """The job is about to stand still: that time is not to count as its operators'."""
        if self._issued:
            self._mark()

    def go_on(self) -> None:
        """It goes on: time counts from here."""
        self._begin()

    def _has_room(self) -> bool:
        in_flight_ns = (self._pending_operators + self._issued) * self.operator_ns
        return in_flight_ns + min(self.operator_ns, self._bound_ns) <= self._bound_ns

    def _forget(self) -> None:
        self._pending.clear()
        self._pending_operators = self._issued = 0
        self._reached = None

    def _begin(self) -> None:
        self._pending.append(Stretch(self._driver.mark(), 0))

    def _mark(self) -> None:
        self._pending.append(Stretch(self._driver.mark(), self._issued))
        self._pending_operators += self._issued
        self._issued = 0

    def _take_oldest(self) -> None:
        mark, operators = self._pending.popleft()
        mark.wait()
        self._pending_operators -= operators
        if self._reached is not None and operators:
            self._learn(self._driver.elapsed_ns(self._reached, mark) / operators)
        self._reached = mark

    def _learn(self, operator_ns: float) -> None:
        known_ns = self._operator_ns
        if known_ns is None or operator_ns >= known_ns:
            self._operator_ns = operator_ns
        else:
            self._operator_ns = known_ns + (operator_ns - known_ns) * _FALLS_BY
