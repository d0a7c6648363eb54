"""Useful work under a trace of preemptions, from throughputs that the lab measured.

The table and the figure of ``checkpoint-goodput``: the points of a results folder, by interval,
with the trace replayed over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remora.checkpoint.goodput import (
    Counting,
    GoodputRow,
    Job,
    Line,
    Point,
    Trace,
    find_scheme,
    goodput_csv,
    goodput_table,
    synthetic_trace,
)
from remora.core.colours import Palette
from remora.core.errors import BadValue
from remora.core.files import write_atomically
from remora.lab.analysis import THROUGHPUT
from remora.lab.report import curves
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.figures.curves import Chart, draw_panels
from remora.lab.report.tables import ArmRow, arm_rows, by_workload
from remora.lab.results import Analysis, Trial

SCHEMES: Mapping[str, str] = {
    "torch-save-nosync": "gpm",
    "torch-save": "gpm",
    "safetensors-save": "gpm",
    "dcp-save": "gpm",
    "gpm-like": "gpm",
    "dcp-async": "checkfreq",
    "dcp-async-process": "checkfreq",
    "torch-checkpointing": "checkfreq",
    "torchsnapshot": "checkfreq",
    "checkfreq-like": "checkfreq",
    "gemini-like": "gemini",
    "remora-checkpoint": "remora",
}
"""What a failure costs under each system: those that stall, those with one in flight, and ours."""


def measured_lines(rows: Sequence[ArmRow]) -> tuple[Line, ...]:
    """Each system of one workload, with a point for every interval it was measured at."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        point = _point(row)
        if point is not None:
            points.setdefault(row.arm.system, []).append(point)
    return tuple(
        Line(system, find_scheme(SCHEMES[system]), tuple(sorted(each, key=lambda p: p.every)))
        for system, each in points.items()
        if system in SCHEMES
    )


def _point(row: ArmRow) -> Point | None:
    every, in_flight = row.arm.options.get("every"), row.arm.options.get("in_flight", 1)
    ratios = row.comparison.cost_ratios if row.comparison is not None else []
    throughput = next((each.ratio for each in ratios if each.quantity == THROUGHPUT), None)
    if not isinstance(every, int) or not isinstance(in_flight, int) or throughput is None:
        return None
    return Point(
        every=every, throughput=throughput, write_s=_write_s(row), in_flight=max(1, in_flight)
    )


def _write_s(row: ArmRow) -> float:
    """Mean time until durable; where that is not known, the stall or the wait at the end."""
    if row.cell.durable_ms is not None:
        return row.cell.durable_ms.mean / 1e3
    stall_ms = row.cell.stall_ms.mean if row.cell.stall_ms is not None else 0.0
    return max(stall_ms, row.cost("drain_ms") or 0.0) / 1e3


@dataclass(frozen=True)
class Scenario:
    """What is replayed over the measured throughputs."""

    trace: Trace
    load_s: float = 0.0
    """Seconds to read a checkpoint back."""
    restart_s: float = 0.0
    """Seconds from a failure until the program is ready to load."""
    counting: Counting = "drops"


BUILT_IN = Scenario(synthetic_trace(seed=0, hours=4.0, mtbf_s=540.0))
"""A synthetic trace: machines go as often as in the one that PCcheck published, 26 times in 4 h."""


def goodput_rows(analysis: Analysis, scenario: Scenario) -> dict[str, tuple[GoodputRow, ...]]:
    """By workload: every system at every interval under a trace, and the ideal.

    Raises:
        BadValue: the analysis holds no system with an interval and a ratio to native.
        UnknownName: no such counting.
    """
    found: dict[str, tuple[GoodputRow, ...]] = {}
    for workload, rows in by_workload(arm_rows(analysis)).items():
        lines, step_s = measured_lines(rows), _native_step_s(rows)
        if lines and step_s:
            job = Job(step_s=step_s, load_s=scenario.load_s, restart_s=scenario.restart_s)
            table = goodput_table(scenario.trace, job, lines, counting=scenario.counting)
            found[workload] = table
    if not found:
        raise BadValue(
            f"the results of {analysis.plan.experiment} hold no system with an interval and a "
            "ratio to native; run: remora bench checkpoint-goodput"
        )
    return found


def _native_step_s(rows: Sequence[ArmRow]) -> float | None:
    native = next((row.cell.step_ms for row in rows if row.arm.role == "baseline"), None)
    return None if native is None else native.mean / 1e3


def write_goodput(
    analysis: Analysis, trials: Sequence[Trial], scenario: Scenario, out: Path
) -> tuple[Path, ...]:
    """Write ``goodput.csv`` and the figure in every form to ``out``; gives what was written.

    Raises:
        BadValue, UnknownName: as :func:`goodput_rows`.
    """
    drawn = figure(scenario).drawn(analysis, trials)
    files: dict[str, bytes] = dict(drawn.files.items())
    files["csv"] = goodput_csv(goodput_rows(analysis, scenario)).encode()
    out.mkdir(parents=True, exist_ok=True)
    for form, data in files.items():
        write_atomically(out / f"goodput.{form}", data)
    return tuple(out / f"goodput.{form}" for form in files)


def figure(scenario: Scenario = BUILT_IN) -> Figure:
    """Useful work of every system against the interval, as the exact replay gives it."""
    chart = Chart("steps between checkpoints", "useful share", reference=1.0, share=True)

    def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
        return any(map(measured_lines, by_workload(arm_rows(analysis)).values()))

    def draw(
        analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant
    ) -> Sheet:
        rows = goodput_rows(analysis, scenario)
        found = [curves.Panel(workload, _lines(group)) for workload, group in rows.items()]
        return draw_panels(found, chart, palette, variant)

    def table(analysis: Analysis, trials: Sequence[Trial]) -> str:
        return goodput_csv(goodput_rows(analysis, scenario))

    kind = "a synthetic trace" if scenario.trace.synthetic else "a recorded trace"
    return Figure(
        "goodput",
        "Goodput against the interval",
        f"Steps that were not lost, as a share of those of a job without checkpoints and failures, "
        f"under {kind}: {scenario.trace.name}.",
        "Useful share of the steps against the interval, one line a system; the numbers are those "
        "of goodput.csv.",
        drawable,
        draw,
        data="goodput.csv",
        table=table,
    )


def _lines(rows: Sequence[GoodputRow]) -> tuple[curves.Line, ...]:
    points: dict[str, list[curves.Point]] = {}
    for row in rows:
        points.setdefault(row.label, []).append(
            curves.Point(at=float(row.every), value=row.replay_share)
        )
    return tuple(curves.Line(label, label, tuple(each)) for label, each in points.items())
