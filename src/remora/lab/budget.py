"""A time budget that is kept: a trial or block that would overrun it is not begun."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from remora.core.clock import Clock

_MARGIN = 1.1
"""What is still to run is expected to take this many times the mean so far."""


@dataclass
class Budget:
    """Wall-clock seconds for the trials of one run, counted from when it is made.

    ``seconds`` of None is no limit.
    """

    clock: Clock
    seconds: float | None
    began_ns: int = field(init=False)
    _trials: dict[str, list[float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.began_ns = self.clock.wall_ns()

    @property
    def spent(self) -> float:
        return (self.clock.wall_ns() - self.began_ns) / 1e9

    @property
    def left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - self.spent

    def took(self, arm: str, seconds: float) -> None:
        """A trial of ``arm`` took ``seconds``, its process included."""
        self._trials.setdefault(arm, []).append(seconds)

    def expected(self, arm: str) -> float:
        """Seconds a trial of ``arm`` should take: its mean so far, or the mean of all."""
        seen = self._trials.get(arm) or [each for all_ in self._trials.values() for each in all_]
        return statistics.fmean(seen) if seen else 0.0

    def allows(self, arms: list[str]) -> bool:
        """Whether trials of ``arms``, one each, should end within the budget."""
        return self.left > 0 and sum(map(self.expected, arms)) * _MARGIN <= self.left

    def timeout(self, timeout_s: float) -> float:
        """A trial's own timeout, cut to what is left."""
        return max(1.0, min(timeout_s, self.left))
