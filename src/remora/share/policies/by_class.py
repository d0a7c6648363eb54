"""What policies share that put one class before the other: two queues, and who is on the device.

High-priority units go first. Policies differ in what they say of a best-effort unit when no
high-priority one waits. At most one run of best-effort work is in flight: what is on the device
already is what a high-priority unit that comes next has to wait for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass

from remora.share.policies.contract import (
    IDLE,
    Decision,
    Longest,
    Options,
    Policy,
    Priority,
    Run,
    Unit,
    WaitUntil,
    whole,
)
from remora.share.policies.fifo import take
from remora.share.policies.floor import Floor, check_share

_HIGH = Priority.HIGH


@dataclass(frozen=True)
class ByClassOptions(Options):
    """What every policy has that puts one class first."""

    floor: float = 0.0
    """The share of the device that best-effort work gets even while high-priority work waits. None
    by default: the high-priority job is not to notice. ``high_wait_ns`` says what one costs."""

    def __post_init__(self) -> None:
        check_share(self.floor)


class ByClass(Policy):
    """High-priority units first, in the order in which they came."""

    options_type = ByClassOptions

    most_best_effort = 1
    """Runs of best-effort work in flight."""

    def __init__(self, options: ByClassOptions | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        self._floor = Floor((options or ByClassOptions()).floor)
        self._high: deque[Unit] = deque()
        self._best_effort: deque[Unit] = deque()
        self._high_flying = 0
        self._flying_since: dict[Run, tuple[int, bool]] = {}
        """Of best-effort runs: since when, and whether the floor brought them."""
        self._high_ended_ns: int | None = None
        """When the last high-priority work was over; None before there was any."""

    # ------------------------------------------------- what policies say, and what they ask

    @abstractmethod
    def _offer(self, unit: Unit, now_ns: int) -> Decision:
        """No high-priority unit waits and a slot is free: may ``unit``, the first, have it?"""

    def _best_effort_run(self, unit: Unit, now_ns: int) -> Run:
        """How ``unit`` would run."""
        return whole(unit)

    def _high_absent_ns(self, now_ns: int) -> int | None:
        """For how long there has been no high-priority work; None where there never was any."""
        if self._high or self._high_flying:
            return 0
        return None if self._high_ended_ns is None else now_ns - self._high_ended_ns

    @property
    def _best_effort_flying(self) -> int:
        return len(self._flying_since)

    def high_wait_ns(self, longest: Longest) -> int | None:
        return self._floor.high_wait_ns(longest.best_effort_ns, longest.high_ns, longest.ahead_ns)

    # ------------------------------------------------- the contract

    def _choose(self, now_ns: int) -> Decision:
        waits = self._best_effort and self._best_effort_flying < self.most_best_effort
        if waits and self._floor.share:
            run = self._best_effort_run(self._best_effort[0], now_ns)
            if self._floor.due(now_ns, run.expected_ns):
                return run
        if self._high:
            return whole(self._high[0])
        return self._offered(now_ns) if waits else IDLE

    def _offered(self, now_ns: int) -> Decision:
        decision = self._offer(self._best_effort[0], now_ns)
        if self._floor.share and not isinstance(decision, Run):
            return self._until_due(decision, now_ns)
        return decision

    def _until_due(self, decision: Decision, now_ns: int) -> Decision:
        """The floor may bring best-effort work sooner than the policy would."""
        run = self._best_effort_run(self._best_effort[0], now_ns)
        due_ns = self._floor.due_at_ns(now_ns, run.expected_ns)
        if due_ns is None:
            return decision
        if isinstance(decision, WaitUntil):
            due_ns = min(due_ns, decision.at_ns)
        return WaitUntil(due_ns)

    def _add(self, unit: Unit, now_ns: int) -> None:
        if unit.priority is _HIGH:
            self._high.append(unit)
        else:
            self._best_effort.append(unit)
            self._grow(now_ns)

    def _take(self, run: Run, now_ns: int) -> None:
        if run.unit.priority is _HIGH:
            take(self._high, run.unit)
            self._high_flying += 1
        else:
            due = self._floor.due(now_ns, run.expected_ns)
            take(self._best_effort, run.unit)
            self._flying_since[run] = (now_ns, due)

    def _drop(self, job: str, now_ns: int) -> None:
        had_high = bool(self._high)
        self._high = deque(unit for unit in self._high if unit.job != job)
        waited = len(self._best_effort)
        self._best_effort = deque(unit for unit in self._best_effort if unit.job != job)
        if had_high:
            self._high_over(now_ns)
        if len(self._best_effort) < waited and self._floor.share:
            self._forfeit(now_ns)
        self._grow(now_ns)

    def _forfeit(self, now_ns: int) -> None:
        """Credit was saved for a unit that is gone."""
        waits = self._best_effort
        run_ns = self._best_effort_run(waits[0], now_ns).expected_ns if waits else 0
        self._floor.forfeit(now_ns, run_ns)

    def _done(self, run: Run, now_ns: int) -> None:
        if run.unit.priority is _HIGH:
            self._high_flying -= 1
            self._high_over(now_ns)
        else:
            self._best_effort_over(run, now_ns)
            if run.end < run.pieces:
                self._best_effort.appendleft(run.unit)
            self._grow(now_ns)

    def _lost(self, run: Run, now_ns: int) -> None:
        if run.unit.priority is _HIGH:
            self._high_flying -= 1
            self._high_over(now_ns)
        else:
            self._best_effort_over(run, now_ns)
            self._grow(now_ns)

    def _high_over(self, now_ns: int) -> None:
        if not self._high and not self._high_flying:
            self._high_ended_ns = now_ns

    def _best_effort_over(self, run: Run, now_ns: int) -> int:
        """How long it had the device."""
        since_ns, due = self._flying_since.pop(run)
        if self._floor.share:
            self._floor.pay(now_ns, now_ns - since_ns, was_due=due)
        return now_ns - since_ns

    def _grow(self, now_ns: int) -> None:
        if self._floor.share:
            self._floor.grows(now_ns, bool(self._best_effort or self._flying_since))
