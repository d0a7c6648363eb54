"""Ways to checkpoint, as far as goodput is concerned: what a failure costs under each.

The published formulas are those behind figure 9 of PCcheck (ASPLOS'25): with ``t`` a step without
checkpoints, ``f`` the interval in steps, ``Tw`` the time to write one and ``N`` in flight, a
failure costs the load of a checkpoint and

    ideal, GPM          f·t / 2
    CheckFreq, Gemini   f·t
    PCcheck             f·t / 2 + t · min(Tw / t, f·N) / 2

Ours is the mean over all moments of failure, with ``t'`` a step while checkpoints are taken: half
the interval and the whole time until durable. (The published term for PCcheck has half of it.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remora.core.errors import BadValue, UnknownName


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job takes whichever way it is checkpointed. Seconds."""

    step_s: float
    """A step without checkpoints."""
    load_s: float = 0.0
    """Reading a checkpoint back."""
    restart_s: float = 0.0
    """From the failure until the program is ready to load. The published evaluation has none."""

    def __post_init__(self) -> None:
        _check(step_s=self.step_s)
        _check(zero=True, load_s=self.load_s, restart_s=self.restart_s)

    @property
    def down_s(self) -> float:
        """From a failure until the next step begins."""
        return self.restart_s + self.load_s


@dataclass(frozen=True, kw_only=True)
class Point:
    """One interval, as measured."""

    every: int
    """Steps from one checkpoint to the next."""
    throughput: float
    """× that without checkpoints, in the same run."""
    write_s: float = 0.0
    """From the step a checkpoint holds until it is durable."""
    in_flight: int = 1

    def __post_init__(self) -> None:
        _check(every=self.every, throughput=self.throughput, in_flight=self.in_flight)
        _check(zero=True, write_s=self.write_s)


@dataclass(frozen=True)
class Scheme:
    """A way to checkpoint."""

    name: str
    title: str
    rework_s: Callable[[Job, Point], float]
    """Work that a failure undoes, in seconds, without the time the job is down."""
    stalls: bool = False
    """Training stands still until a checkpoint is durable, so it is durable when the step goes on;
    what that takes is in the throughput."""

    def redo_s(self, job: Job, point: Point) -> float:
        """What one failure costs, in seconds."""
        return job.down_s + self.rework_s(job, point)

    def latency_s(self, point: Point) -> float:
        """How far the durable checkpoint is behind the step it holds."""
        return 0.0 if self.stalls else point.write_s


def _half(job: Job, point: Point) -> float:
    return point.every * job.step_s / 2


def _whole(job: Job, point: Point) -> float:
    return point.every * job.step_s


def _pccheck(job: Job, point: Point) -> float:
    writing_steps = min(point.write_s / job.step_s, point.every * point.in_flight)
    return _half(job, point) + job.step_s * writing_steps / 2


def _ours(job: Job, point: Point) -> float:
    interval_s = point.every * job.step_s / point.throughput
    # More often than storage takes them, checkpoints are skipped: N every Tw is what is left.
    return max(interval_s, point.write_s / point.in_flight) / 2 + point.write_s


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("ideal", "checkpoints that cost nothing", _half, stalls=True),
        Scheme("gpm", "GPM-like: stop, write from the device, go on", _half, stalls=True),
        Scheme("checkfreq", "CheckFreq-like: one in flight", _whole),
        Scheme("gemini", "Gemini-like: into a peer's memory", _whole),
        Scheme("pccheck", "PCcheck, as published", _pccheck),
        Scheme("remora", "ours", _ours),
    )
}


def find_scheme(name: str) -> Scheme:
    """The scheme called ``name``.

    Raises:
        UnknownName: there is none.
    """
    if name not in SCHEMES:
        raise UnknownName("scheme", name, SCHEMES)
    return SCHEMES[name]


def _check(*, zero: bool = False, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf or (value == 0 and not zero):
            wanted = "0 or more" if zero else "more than 0"
            raise BadValue(f"{name}={value!r} cannot be; give a number, {wanted}")
