"""Goodput against the interval: the published formula and the exact replay, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remora.checkpoint.goodput.replay import Pace, Replayed, replay
from remora.checkpoint.goodput.schemes import Job, Point, Scheme, find_scheme
from remora.checkpoint.goodput.trace import Counting, Trace


@dataclass(frozen=True)
class Line:
    """One system: the scheme it follows and what was measured of it at each interval."""

    label: str
    scheme: Scheme
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class GoodputRow:
    """One system at one interval under one trace. Times in seconds, rates in steps per hour."""

    trace: str
    synthetic: bool
    counting: Counting
    failures: int
    duration_s: float
    label: str
    scheme: str
    every: int
    throughput: float
    """× without checkpoints and failures, as measured."""
    write_s: float
    in_flight: int
    redo_s: float
    """What a failure costs by the scheme's formula."""
    formula_steps_per_hour: float
    replay_steps_per_hour: float
    formula_share: float
    """Of the steps that the same time would hold without checkpoints and failures."""
    replay_share: float
    lost_steps: int
    """In the replay: done and undone."""
    down_s: float
    """In the replay: restarting and loading."""

    @property
    def formula_error(self) -> float:
        """By what share of the replay's steps the formula is off; positive: it promises more."""
        if not self.replay_steps_per_hour:
            return 0.0 if not self.formula_steps_per_hour else float("inf")
        return self.formula_steps_per_hour / self.replay_steps_per_hour - 1


def goodput_table(
    trace: Trace, job: Job, lines: Iterable[Line], *, counting: Counting = "drops"
) -> tuple[GoodputRow, ...]:
    """Useful work per hour of every system at every interval, and of the ideal at each of them.

    The formula sees only how many failures there are; the replay sees when they come. Neither
    knows that fewer GPUs are slower: both follow the published evaluation in that.

    Raises:
        UnknownName: no such counting.
    """
    given = tuple(lines)
    moments = trace.failures(counting)
    every_line = (*given, _ideal(given))
    return tuple(
        _row(trace, counting, moments, job, line, point)
        for line in every_line
        for point in line.points
    )


def formula_rate(scheme: Scheme, job: Job, point: Point, failures: int, duration_s: float) -> float:
    """(T − failures · redo) / step / T, in steps per second, and never below 0.

    As behind figure 9 of PCcheck (ASPLOS'25).
    """
    lost_s = failures * scheme.redo_s(job, point)
    return max(0.0, (duration_s - lost_s) * point.throughput / job.step_s / duration_s)


def replayed(
    scheme: Scheme, job: Job, point: Point, failures: Sequence[float], duration_s: float
) -> Replayed:
    """The same job, replayed against the moments of failure."""
    pace = Pace(
        step_s=job.step_s / point.throughput,
        every=point.every,
        latency_s=scheme.latency_s(point),
        in_flight=point.in_flight,
        down_s=job.down_s,
    )
    return replay(failures, duration_s, pace)


def _ideal(lines: Iterable[Line]) -> Line:
    intervals = sorted({point.every for line in lines for point in line.points})
    points = tuple(Point(every=every, throughput=1.0) for every in intervals)
    return Line("ideal", find_scheme("ideal"), points)


def _row(
    trace: Trace,
    counting: Counting,
    moments: tuple[float, ...],
    job: Job,
    line: Line,
    point: Point,
) -> GoodputRow:
    duration_s = trace.duration_s
    formula = formula_rate(line.scheme, job, point, len(moments), duration_s)
    exact = replayed(line.scheme, job, point, moments, duration_s)
    return GoodputRow(
        trace=trace.name,
        synthetic=trace.synthetic,
        counting=counting,
        failures=len(moments),
        duration_s=duration_s,
        label=line.label,
        scheme=line.scheme.name,
        every=point.every,
        throughput=point.throughput,
        write_s=point.write_s,
        in_flight=point.in_flight,
        redo_s=line.scheme.redo_s(job, point),
        formula_steps_per_hour=formula * 3600,
        replay_steps_per_hour=exact.steps_per_hour,
        formula_share=formula * job.step_s,
        replay_share=exact.steps_per_hour / 3600 * job.step_s,
        lost_steps=exact.lost_steps,
        down_s=exact.down_s,
    )
