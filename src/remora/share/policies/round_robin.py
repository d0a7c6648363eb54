"""Round robin: jobs take turns of a quantum of device time, as a driver's time slicing does.

Nothing is stopped in the middle of a unit, so a turn ends with the first unit that ends behind its
quantum. A job with nothing to run gives up its turn. Units keep their order within a job, not
within a class.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from remora.core.errors import BadValue
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
from remora.share.policies.fifo import take


@dataclass(frozen=True)
class RoundRobinOptions(Options):
    """How long a turn is."""

    quantum_ns: int = 2_000_000
    """Device time of a turn: the order of size of a driver's own time slice."""

    def __post_init__(self) -> None:
        if self.quantum_ns <= 0:
            raise BadValue(
                f"quantum={self.quantum_ns} ns is no time; choose a positive one such as 2ms"
            )


class RoundRobin(Policy):
    """Jobs take turns."""

    name = "round-robin"
    title = "turns of a quantum, whoever it is"
    order = "job"

    options_type = RoundRobinOptions

    def __init__(self, options: RoundRobinOptions | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self.quantum_ns = (options or RoundRobinOptions()).quantum_ns
        self._waiting: dict[str, deque[Unit]] = {}
        """By job, in the order of their next turns; a job with nothing to run is not in it."""
        self._turn: str | None = None
        self._used_ns = 0
        self._since: dict[Run, int] = {}

    def _add(self, unit: Unit, now_ns: int) -> None:
        self._waiting.setdefault(unit.job, deque()).append(unit)

    def _take(self, run: Run, now_ns: int) -> None:
        job = run.unit.job
        units = self._waiting.get(job)
        if units is None:
            raise not_waiting(run.unit)
        take(units, run.unit)
        if job != self._turn or self._used_ns >= self.quantum_ns:
            self._turn_to(job)
        if not units:
            del self._waiting[job]
        self._since[run] = now_ns

    def _turn_to(self, job: str) -> None:
        """``job`` begins a turn, and goes behind all others for the one after it."""
        self._turn, self._used_ns = job, 0
        self._waiting[job] = self._waiting.pop(job)

    def _drop(self, job: str, now_ns: int) -> None:
        self._waiting.pop(job, None)
        if self._turn == job:
            self._turn = None

    def _choose(self, now_ns: int) -> Decision:
        if self._turn in self._waiting and self._used_ns < self.quantum_ns:
            return whole(self._waiting[self._turn][0])
        others = (units for job, units in self._waiting.items() if job != self._turn)
        units = next(others, None) or (self._waiting.get(self._turn) if self._turn else None)
        return whole(units[0]) if units else IDLE

    def _done(self, run: Run, now_ns: int) -> None:
        used_ns = now_ns - self._since.pop(run)
        if run.unit.job == self._turn:
            self._used_ns += used_ns

    def _lost(self, run: Run, now_ns: int) -> None:
        del self._since[run]
