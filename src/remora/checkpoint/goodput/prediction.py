"""The model against reality: what the replay foretells of a live run, beside what was measured."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from remora.checkpoint.goodput.live import Live
from remora.checkpoint.goodput.replay import Pace, replay
from remora.core.errors import BadValue


@dataclass(frozen=True, kw_only=True)
class LiveRow:
    """A live run and the replay of the same kills. Rates in useful steps per hour."""

    every: int
    kills: int
    duration_s: float
    step_s: float
    down_s: float
    """From a kill until the next step began, on average."""
    measured_steps_per_hour: float
    predicted_steps_per_hour: float
    measured_lost_steps: int
    predicted_lost_steps: int

    @property
    def error(self) -> float:
        """By what share of the measured rate the prediction is off; positive: it promises more."""
        if not self.measured_steps_per_hour:
            return 0.0 if not self.predicted_steps_per_hour else math.inf
        return self.predicted_steps_per_hour / self.measured_steps_per_hour - 1


def pace_of(live: Live, every: int, *, latency_s: float = 0.0, in_flight: int = 1) -> Pace:
    """How the job ran while it ran: the mean of its steps, its mean start, its first start.

    Of a run that nobody disturbed it predicts a disturbed one; of the disturbed run itself it
    leaves to the model only what is lost and when.

    Raises:
        BadValue: no life of the job has two finished steps.
    """
    ran = [life for life in live.lives if len(life.steps) > 1]
    if not ran:
        raise BadValue("the job never finished two steps in one life; run it longer, kill it less")
    seconds = sum(life.steps[-1].at_ns - life.steps[0].at_ns for life in ran) / 1e9
    starts = [life.start_up_s for life in live.lives if life.start_up_s is not None]
    return Pace(
        step_s=seconds / sum(len(life.steps) - 1 for life in ran),
        every=every,
        latency_s=latency_s,
        in_flight=in_flight,
        down_s=statistics.fmean(starts[1:] or starts),
        first_down_s=starts[0],
    )


def live_row(live: Live, pace: Pace) -> LiveRow:
    """``live`` beside the replay of its kills at ``pace``."""
    foretold = replay(live.kills_s, live.duration_s, pace)
    return LiveRow(
        every=pace.every,
        kills=len(live.kills_s),
        duration_s=live.duration_s,
        step_s=pace.step_s,
        down_s=pace.down_s,
        measured_steps_per_hour=live.steps_per_hour,
        predicted_steps_per_hour=foretold.steps_per_hour,
        measured_lost_steps=live.lost_steps,
        predicted_lost_steps=foretold.lost_steps,
    )
