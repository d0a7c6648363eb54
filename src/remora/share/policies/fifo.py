"""First in, first out: what a device's own queue does. Classes count for nothing."""

from __future__ import annotations

from collections import deque

from remora.share.policies.contract import (
    IDLE,
    Decision,
    Options,
    Policy,
    Run,
    Unit,
    not_waiting,
    whole,
)


class Fifo(Policy):
    """Whoever came first runs first."""

    name = "fifo"
    title = "first come, first served"

    def __init__(self, options: Options | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self._waiting: deque[Unit] = deque()

    def _add(self, unit: Unit, now_ns: int) -> None:
        self._waiting.append(unit)

    def _take(self, run: Run, now_ns: int) -> None:
        take(self._waiting, run.unit)

    def _drop(self, job: str, now_ns: int) -> None:
        self._waiting = deque(unit for unit in self._waiting if unit.job != job)

    def _choose(self, now_ns: int) -> Decision:
        return whole(self._waiting[0]) if self._waiting else IDLE


def take(waiting: deque[Unit], unit: Unit) -> None:
    """Remove ``unit``, which is nearly always the first.

    Raises:
        BadValue: it is not there.
    """
    if waiting and waiting[0] is unit:
        waiting.popleft()
        return
    try:
        waiting.remove(unit)
    except ValueError:
        raise not_waiting(unit) from None
