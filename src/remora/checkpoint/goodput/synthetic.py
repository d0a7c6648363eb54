"""Traces and schedules of failures that are drawn, for where none was recorded. Seeded."""

from __future__ import annotations

import math
import random

from remora.checkpoint.goodput.trace import GPUS_PER_MACHINE, Reading, Trace
from remora.core.errors import BadValue

SAMPLED_EVERY_S = 63.0
"""As the published trace."""
MACHINES = 14
"""56 GPUs, as the published trace at its most."""
REPAIR_S = 600.0
"""Mean time until a machine comes back."""


def synthetic_trace(
    seed: int, hours: float, mtbf_s: float, *, machines: int = MACHINES, repair_s: float = REPAIR_S
) -> Trace:
    """A trace drawn at random: nobody's cluster, and labelled so.

    Machines of 4 GPUs are lost one at a time, as a Poisson process with ``mtbf_s`` between losses
    anywhere, and each comes back after an exponential time. The number is read every 63 s: losses
    and returns in between cancel out or merge, as they do in a recorded trace.

    Raises:
        BadValue: a time or a number of machines that is not positive.
    """
    duration_s = hours * 3600
    _check(hours=hours, mtbf_s=mtbf_s, repair_s=repair_s, machines=machines)
    events = _events(random.Random(seed), duration_s, mtbf_s, machines, repair_s)
    readings, up, next_event = [], machines, 0
    for index in range(max(2, math.floor(duration_s / SAMPLED_EVERY_S) + 1)):
        time_s = index * SAMPLED_EVERY_S
        while next_event < len(events) and events[next_event][0] <= time_s:
            up += events[next_event][1]
            next_event += 1
        readings.append(Reading(time_s, up * GPUS_PER_MACHINE))
    name = f"synthetic (seed {seed}, {hours:g} h, a loss every {mtbf_s:g} s)"
    return Trace(name, tuple(readings), synthetic=True)


def exponential_failures(seed: int, mtbf_s: float, duration_s: float) -> tuple[float, ...]:
    """Moments of failure within ``duration_s``, as a Poisson process, in seconds.

    Raises:
        BadValue: a time that is not positive.
    """
    _check(mtbf_s=mtbf_s, duration_s=duration_s)
    rng, moments, now = random.Random(seed), [], 0.0
    while (now := now + rng.expovariate(1 / mtbf_s)) < duration_s:
        moments.append(now)
    return tuple(moments)


def compressed(failures: tuple[float, ...], factor: float) -> tuple[float, ...]:
    """The same moments, ``factor`` times as dense: a day of failures in an hour is 24.

    Raises:
        BadValue: a factor that is not positive.
    """
    _check(factor=factor)
    return tuple(moment / factor for moment in failures)


def _events(
    rng: random.Random, duration_s: float, mtbf_s: float, machines: int, repair_s: float
) -> list[tuple[float, int]]:
    """Losses (-1) and returns (+1), in order; a loss while nothing is left is none."""
    now, returns, events = 0.0, list[float](), list[tuple[float, int]]()
    while (now := now + rng.expovariate(1 / mtbf_s)) < duration_s:
        back_s = now + rng.expovariate(1 / repair_s)
        returns = [moment for moment in returns if moment > now]
        if len(returns) < machines:
            returns.append(back_s)
            events += [(now, -1), (back_s, 1)]
    return sorted(events)


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise BadValue(f"{name}={value!r} is not a positive number")
