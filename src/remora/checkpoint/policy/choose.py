"""From what was measured and what is wanted to how often and how to save."""

from __future__ import annotations

import math

from remora.checkpoint.policy import interval
from remora.checkpoint.policy.records import Bounds, Choice, LimitedBy, Measured, Setting, Wanted


def choose(measured: Measured, wanted: Wanted, setting: Setting | None = None) -> Choice:
    """The interval that loses least among those that storage, memory and the overhead allow.

    ``setting`` is threads and chunk, as :func:`~remora.checkpoint.policy.probe.pick` found them.
    """
    asked = interval.bounds(measured, wanted)
    every = least_loss(interval.whole(asked.hard), asked, measured, wanted)
    return choice_at(every, measured, wanted, setting)


def choice_at(
    every: int, measured: Measured, wanted: Wanted, setting: Setting | None = None
) -> Choice:
    """What a checkpoint every ``every`` steps costs and loses, whoever decided on it."""
    setting = setting or Setting()
    cost_s = interval.predicted_cost_s(measured, wanted)
    seconds = every * measured.step_s + cost_s
    asked = interval.bounds(measured, wanted)
    return Choice(
        every=every,
        in_flight=interval.needed_in_flight(seconds, measured, wanted),
        threads=setting.threads,
        chunk_bytes=setting.chunk_bytes,
        cost_s=cost_s,
        expected_overhead=cost_s / (every * measured.step_s),
        expected_lost_s=interval.expected_lost_s(seconds, interval.latency_s(measured)),
        limited_by=_limited_by(asked),
        bounds=asked,
        measured=measured,
        wanted=wanted,
    )


def least_loss(least: int, asked: Bounds, measured: Measured, wanted: Wanted) -> int:
    """Of ``least`` steps and more, those with the smallest expected slowdown (Daly 2006).

    The slowdown has one minimum, so it is at ``least`` or on either side of the real optimum.
    """
    cost_s = interval.predicted_cost_s(measured, wanted)
    optimum = asked.failure_rate
    around = {max(least, math.floor(optimum)), max(least, math.ceil(optimum))}
    return min(
        sorted(around),
        key=lambda steps: interval.slowdown(steps * measured.step_s, cost_s, wanted.mtbf_s),
    )


def _limited_by(asked: Bounds) -> LimitedBy:
    by: dict[LimitedBy, float] = {
        "bandwidth": asked.bandwidth,
        "overhead": asked.overhead,
        "memory": asked.memory,
        "in flight": asked.in_flight,
        "failure rate": asked.failure_rate,
    }
    name = max(by, key=lambda name: by[name])
    return name if interval.whole(by[name]) > 1 else "nothing"
