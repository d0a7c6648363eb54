"""What checkpoints cost the steps: those with one under way against those without, and waits."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

QUIET = 64
"""Quiet steps remembered."""
CHECKPOINTS = 64
"""Checkpoints whose cost is averaged."""
USUAL = 2.0
"""A step longer than this many median ones was held up by something else (garbage collection, an
evaluation, late data) and counts as this long. Waits for a checkpoint are measured, and kept
whole."""


@dataclass
class _Account:
    """What the steps between two finished checkpoints spent."""

    busy: int = 0
    seconds: float = 0.0
    squares: float = 0.0
    stall_s: float = 0.0


class StepTimes:
    """Step times in seconds, apart from the waits that checkpoints caused."""

    def __init__(self) -> None:
        self._quiet: deque[float] = deque(maxlen=QUIET)
        self._closed: deque[_Account] = deque(maxlen=CHECKPOINTS)
        self._open = _Account()
        self._longest = math.inf

    @property
    def quiet_steps(self) -> int:
        """How many the baseline rests on."""
        return len(self._quiet)

    def add_quiet(self, seconds: float) -> None:
        """A step during which no checkpoint was under way."""
        self._quiet.append(seconds)
        self._longest = USUAL * statistics.median(self._quiet)

    def add_busy(self, seconds: float, stall_s: float) -> None:
        """A step that took ``seconds``, of which it waited ``stall_s`` for a checkpoint."""
        usual = self._clip(seconds - stall_s)
        account = self._open
        account.busy += 1
        account.seconds += usual
        account.squares += usual * usual
        account.stall_s += stall_s

    def close(self) -> None:
        """A checkpoint is durable: what was spent since the last one is its account."""
        self._closed.append(self._open)
        self._open = _Account()

    def step_s(self) -> float:
        """Mean quiet step.

        Raises:
            statistics.StatisticsError: no quiet step was seen.
        """
        return statistics.fmean(self._clip(seconds) for seconds in self._quiet)

    def stall_s(self) -> float:
        """Mean wait for one checkpoint."""
        return math.fsum(a.stall_s for a in self._closed) / max(1, len(self._closed))

    def cost_s(self) -> float:
        """Mean lengthening of training by one checkpoint.

        The waits are exact. What busy steps take beyond quiet ones is known with an error, and
        only what exceeds two standard errors is charged: noise is no reason to save less often.
        """
        busy = sum(a.busy for a in self._closed)
        if not busy:
            return self.stall_s()
        quiet = [self._clip(seconds) for seconds in self._quiet]
        mean = math.fsum(a.seconds for a in self._closed) / busy
        spread = math.fsum(a.squares for a in self._closed) / busy - mean * mean
        error = math.sqrt(max(0.0, spread) / busy + _variance(quiet) / len(quiet))
        theft = max(0.0, mean - statistics.fmean(quiet) - 2 * error) * busy
        return self.stall_s() + theft / len(self._closed)

    def _clip(self, seconds: float) -> float:
        return min(seconds, self._longest)


def _variance(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return statistics.fmean((value - mean) ** 2 for value in values)
