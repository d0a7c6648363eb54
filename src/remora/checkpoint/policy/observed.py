"""The policy while training runs: fed with timings, it keeps its estimates and chooses anew.

It reads no clock and starts no thread: the same timings always give the same choices.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from remora.checkpoint.policy import interval
from remora.checkpoint.policy.bandwidth import Sustained
from remora.checkpoint.policy.choose import choice_at, least_loss
from remora.checkpoint.policy.records import Bounds, Choice, Measured, Setting, Wanted
from remora.checkpoint.policy.step_times import StepTimes
from remora.core.errors import BadValue

WARM_UP = 2
"""First steps, which compile and allocate: not a baseline for anything."""
FIRST_QUIET = 8
"""Quiet steps before the first checkpoint."""
STALE = 400
"""After so many busy steps in a row the baseline is looked at again …"""
AGAIN_QUIET = 16
"""… over so many steps without a checkpoint: 4 % of them."""
LATENCIES = 12
"""Checkpoints whose latency counts; the longest of them."""
RAISED = 1.1
"""An interval that is too short becomes this much longer than needed, so that jitter does not
lengthen it step by step."""
LOWERED = 1.25
"""An interval is shortened only where one this much longer than needed is shorter still …"""
PATIENCE = 8
"""… for so many checkpoints in a row."""
FLAT = 2.0
"""Around the optimum of Young and Daly the loss is flat: at half or twice the interval it is a
quarter larger, and that small. Within this factor nothing is changed for it."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One checkpoint that has become durable."""

    size: int
    """Bytes written."""
    busy_s: float
    """Seconds that storage was busy since the last report; overlapping writes count once
    (:class:`~remora.checkpoint.policy.bandwidth.BusyTime` keeps that account)."""
    latency_s: float
    """From the step it holds until it was durable."""
    copy_s: float = 0.0
    """Seconds spent copying it into staging buffers; 0 where unknown."""

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.busy_s < math.inf or not 0 <= self.latency_s < math.inf:
            raise BadValue(f"{self} is not a write; give bytes and seconds above 0")


class Tuner:
    """Says after each step whether a checkpoint is due, and learns from what saving took.

    >>> tuner = Tuner(Wanted(), state_bytes=480_000_000)
    >>> due = tuner.step(0.255, busy=False)                     # after every step
    >>> tuner.durable(Written(size=480_000_000, busy_s=0.96, latency_s=1.1))  # after every save

    It reacts to a lasting slow-down of storage after two checkpoints, and has recovered from it
    after WINDOW + 2 · PATIENCE of them. Its methods are for one thread, or one lock.
    """

    def __init__(self, wanted: Wanted, state_bytes: int, setting: Setting | None = None) -> None:
        if state_bytes < 1:
            raise BadValue(f"state_bytes={state_bytes!r} leaves nothing to save; give its size")
        self.wanted = wanted
        self.choice: Choice | None = None
        """The present one; None until the first checkpoint is durable."""
        self.changes = 0
        """How often the interval was changed since it was first chosen."""
        self._setting = setting
        self._size = state_bytes
        self._times = StepTimes()
        self._sustained = Sustained()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._copy_bytes_s = math.inf
        self._warming = WARM_UP
        self._quiet_wanted = FIRST_QUIET
        self._busy_in_a_row = 0
        self._since_due = 0
        self._lower: list[int] = []

    @property
    def every(self) -> int | None:
        """Steps between checkpoints; None while still learning."""
        return self.choice.every if self.choice else None

    # ------------------------------------------------------------ after every step

    def step(self, seconds: float, *, busy: bool, stall_s: float = 0.0) -> bool:
        """A step is over: is a checkpoint of what it left due?

        Args:
            seconds: Wall time since the end of the step before, the wait included.
            busy: Whether a checkpoint was being copied or written at any time during it.
            stall_s: The part of ``seconds`` that it waited for a checkpoint.
        """
        if not 0 <= stall_s <= seconds < math.inf:
            raise BadValue(f"a step of {seconds!r} s cannot have waited {stall_s!r} s of it")
        self._since_due += 1
        self._record(seconds, busy, stall_s)
        due = self._due(busy)
        if due:
            self._since_due = 0
        return due

    def _record(self, seconds: float, busy: bool, stall_s: float) -> None:
        if self._warming:
            self._warming -= 1
        elif busy or stall_s:
            self._times.add_busy(seconds, stall_s)
            self._busy_in_a_row += 1
            if self._busy_in_a_row == STALE:
                self._quiet_wanted = AGAIN_QUIET
        else:
            self._times.add_quiet(seconds)
            self._busy_in_a_row = 0
            self._quiet_wanted = max(0, self._quiet_wanted - 1)

    def _due(self, busy: bool) -> bool:
        if self._warming or self._quiet_wanted:
            return False
        if self.choice is None:
            return not busy
        return self._since_due >= self.choice.every

    # ------------------------------------------------------------ after every checkpoint

    def durable(self, written: Written) -> Choice | None:
        """A checkpoint is durable: the choice from now on; None while still learning."""
        self._size = written.size
        self._sustained.add(written.size, written.busy_s)
        self._latencies.append(written.latency_s)
        if written.copy_s > 0:
            self._copy_bytes_s = written.size / written.copy_s
        self._times.close()
        if (measured := self.measured()) is not None:
            before, every = self.every, self._decide(measured)
            self.changes += before not in (None, every)
            self.choice = choice_at(every, measured, self.wanted, self._setting)
        return self.choice

    def measured(self) -> Measured | None:
        """What is known now; None before a quiet step and a durable checkpoint were seen."""
        rate = self._sustained.bytes_s()
        if rate is None or not self._times.quiet_steps:
            return None
        return Measured(
            step_s=self._times.step_s(),
            state_bytes=self._size,
            sustained_write_bytes_s=rate,
            copy_bytes_s=self._copy_bytes_s,
            stall_s=self._times.stall_s(),
            cost_s=self._times.cost_s(),
            latency_s=max(self._latencies),
        )

    def _decide(self, measured: Measured) -> int:
        """The interval: longer at once where it must be, shorter only where that will last."""
        every, asked = self.every, interval.bounds(measured, self.wanted)
        if every is None or self._too_short(every, asked):
            self._lower.clear()
            return self._with(RAISED, asked, measured)
        if not self._too_long(every, asked):
            self._lower.clear()
            return every
        self._lower.append(self._with(LOWERED, asked, measured))
        if len(self._lower) < PATIENCE:
            return every
        lowest = min(every, max(self._lower))
        self._lower.clear()
        return lowest

    def _too_short(self, every: int, asked: Bounds) -> bool:
        return interval.whole(asked.hard) > every or asked.failure_rate > FLAT * every

    def _too_long(self, every: int, asked: Bounds) -> bool:
        return max(interval.whole(LOWERED * asked.hard), FLAT * asked.failure_rate) < every

    def _with(self, slack: float, asked: Bounds, measured: Measured) -> int:
        return least_loss(interval.whole(slack * asked.hard), asked, measured, self.wanted)
