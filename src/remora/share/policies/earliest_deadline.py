"""Earliest deadline first, whichever class it is (Liu and Layland 1973, section 7).

On a device that can preempt it is optimal. This one cannot, so a unit may still be late by the one
that runs when it comes. Units without a deadline come behind all others, those of high-priority
jobs first.
"""

from __future__ import annotations

import heapq
import math

from remora.share.policies.contract import (
    IDLE,
    Decision,
    Options,
    Policy,
    Priority,
    Run,
    Unit,
    not_waiting,
    whole,
)


class EarliestDeadline(Policy):
    """Whoever must be finished first runs first, of either class."""

    name = "earliest-deadline"
    title = "the earliest deadline first, of either class"
    order = "deadline"

    def __init__(self, options: Options | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self._waiting: list[tuple[float, bool, int, Unit]] = []
        """A heap: deadline, best-effort or not, number in the order they came."""
        self._count = 0

    def _add(self, unit: Unit, now_ns: int) -> None:
        deadline = math.inf if unit.deadline_ns is None else unit.deadline_ns
        behind = unit.priority is not Priority.HIGH
        heapq.heappush(self._waiting, (deadline, behind, self._count, unit))
        self._count += 1

    def _take(self, run: Run, now_ns: int) -> None:
        if self._waiting and self._waiting[0][3] is run.unit:
            heapq.heappop(self._waiting)
            return
        rest = [each for each in self._waiting if each[3] is not run.unit]
        if len(rest) == len(self._waiting):
            raise not_waiting(run.unit)
        self._keep(rest)

    def _drop(self, job: str, now_ns: int) -> None:
        self._keep([each for each in self._waiting if each[3].job != job])

    def _keep(self, waiting: list[tuple[float, bool, int, Unit]]) -> None:
        heapq.heapify(waiting)
        self._waiting = waiting

    def _choose(self, now_ns: int) -> Decision:
        return whole(self._waiting[0][3]) if self._waiting else IDLE
