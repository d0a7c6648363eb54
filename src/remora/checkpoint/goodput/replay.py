"""A job replayed against moments of failure, exactly: what was done, what was lost, what is left.

Steps are of equal length, checkpoints are due at multiples of the interval, and each is durable a
fixed time after its step. One that finds as many under way as may be is skipped. A failure undoes
what came after the newest durable checkpoint, and keeps the job down for a fixed time; one that
comes meanwhile starts that time anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from remora.core.errors import BadValue


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a job runs while nothing fails. Seconds and steps."""

    step_s: float
    """A step, with its share of what checkpoints cost."""
    every: int
    latency_s: float
    """From a step until the checkpoint of it is durable."""
    in_flight: int
    down_s: float
    """From a failure until the next step begins."""
    first_down_s: float = 0.0
    """From the beginning until the first step begins."""

    def durable_step(self, ran_s: float) -> int:
        """The step of the newest durable checkpoint, ``ran_s`` into a life, counted from its start.

        Of every ``cycle`` checkpoints due, the first ``in_flight`` are taken; then one is due again
        when the first of them is durable.
        """
        interval_s = self.every * self.step_s
        newest = math.floor((ran_s - self.latency_s) / interval_s) - 1
        if newest < 0:
            return 0
        cycle = max(self.in_flight, math.ceil(self.latency_s / interval_s))
        whole, rest = divmod(newest, cycle)
        return (whole * cycle + min(rest, self.in_flight - 1) + 1) * self.every


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of a job."""

    duration_s: float
    steps: int
    """Useful ones: done, and not undone."""
    lost_steps: int
    """Done and undone."""
    restarts: int
    down_s: float

    @property
    def steps_per_hour(self) -> float:
        return self.steps / self.duration_s * 3600


def replay(failures: Sequence[float], duration_s: float, pace: Pace) -> Replayed:
    """A job at ``pace`` for ``duration_s`` seconds, failing at the moments ``failures``.

    Raises:
        BadValue: failures not in order, or before the beginning.
    """
    up_at, kept, lost, down_s, restarts = pace.first_down_s, 0, 0, 0.0, 0
    down_since = 0.0
    for before, moment in zip((0.0, *failures), failures, strict=False):
        if moment < before:
            raise BadValue(f"failure at {moment!r} s comes after one at {before!r} s; sort them")
        if moment >= duration_s:
            break
        restarts += 1
        down_s += min(moment, up_at) - down_since
        ran_s = max(0.0, moment - up_at)
        durable = pace.durable_step(ran_s)
        kept += durable
        lost += math.floor(ran_s / pace.step_s) - durable
        down_since, up_at = moment, moment + pace.down_s
    return Replayed(
        duration_s=duration_s,
        steps=kept + math.floor(max(0.0, duration_s - up_at) / pace.step_s),
        lost_steps=lost,
        restarts=restarts,
        down_s=down_s + min(duration_s, up_at) - down_since,
    )
