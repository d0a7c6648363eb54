"""Goodput against the interval: what ``checkpoint-throughput`` measured, under preemptions.

PCcheck (ASPLOS 2025), figure 9: useful work under a trace of preemptions. Its throughputs are those
of figure 8 at the same intervals, by name and not by position; the time a checkpoint takes is the
measured one. Nothing is run: a results folder is read, a trace replayed, a figure drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remora.checkpoint.goodput import (
    COLUMNS,
    Counting,
    GoodputRow,
    Job,
    Line,
    Point,
    Trace,
    cells,
    find_scheme,
    goodput_table,
)
from remora.core.errors import BadValue
from remora.core.files import write_atomically
from remora.lab.analysis import THROUGHPUT, analyse_folder
from remora.lab.folder import Folder
from remora.lab.report import curves
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.figures.curves import Chart, draw_panels
from remora.lab.report.palette import Palette
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


@dataclass(frozen=True)
class Written:
    """Where the report lies."""

    csv: Path
    figures: tuple[Path, ...]


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


def goodput_rows(
    analysis: Analysis,
    trace: Trace,
    *,
    load_s: float = 0.0,
    restart_s: float = 0.0,
    counting: Counting = "drops",
) -> dict[str, tuple[GoodputRow, ...]]:
    """By workload: every system at every interval under ``trace``, and the ideal.

    Args:
        load_s: seconds to read a checkpoint back.
        restart_s: seconds from a failure until the program is ready to load.

    Raises:
        BadValue: the analysis holds no system with an interval and a ratio to native.
        UnknownName: no such counting.
    """
    found: dict[str, tuple[GoodputRow, ...]] = {}
    for workload, rows in by_workload(arm_rows(analysis)).items():
        lines, step_s = measured_lines(rows), _native_step_s(rows)
        if lines and step_s:
            job = Job(step_s=step_s, load_s=load_s, restart_s=restart_s)
            found[workload] = goodput_table(trace, job, lines, counting=counting)
    if not found:
        raise BadValue(
            f"the results of {analysis.plan.experiment} hold no system with an interval and a "
            "ratio to native; run: remora bench checkpoint-throughput"
        )
    return found


def _native_step_s(rows: Sequence[ArmRow]) -> float | None:
    native = next((row.cell.step_ms for row in rows if row.arm.role == "baseline"), None)
    return None if native is None else native.mean / 1e3


def write_goodput(
    results: Path,
    out: Path,
    trace: Trace,
    *,
    load_s: float = 0.0,
    restart_s: float = 0.0,
    counting: Counting = "drops",
) -> Written:
    """Read the results folder ``results``; write ``goodput.csv`` and figure 9 to ``out``.

    Raises:
        ResultsUnusable: the folder cannot be read.
        BadValue, UnknownName: as :func:`goodput_rows`.
    """
    analysis, trials = analyse_folder(Folder.open(results))
    rows = goodput_rows(analysis, trace, load_s=load_s, restart_s=restart_s, counting=counting)
    out.mkdir(parents=True, exist_ok=True)
    table = out / "goodput.csv"
    write_atomically(table, _csv(rows).encode())
    return Written(csv=table, figures=_draw(rows, trace, analysis, trials, out))


def _csv(rows: Mapping[str, Sequence[GoodputRow]]) -> str:
    """All workloads in one table, each row beginning with its workload."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("workload", *COLUMNS))
    writer.writerows((name, *cells(row)) for name, group in rows.items() for row in group)
    return text.getvalue()


def _draw(
    rows: Mapping[str, Sequence[GoodputRow]],
    trace: Trace,
    analysis: Analysis,
    trials: Sequence[Trial],
    out: Path,
) -> tuple[Path, ...]:
    paths = []
    for form, data in figure(rows, trace).drawn(analysis, trials).files.items():
        paths.append(out / f"goodput.{form}")
        write_atomically(paths[-1], data)
    return tuple(paths)


def figure(rows: Mapping[str, Sequence[GoodputRow]], trace: Trace) -> Figure:
    """Useful work of every system against the interval, as the exact replay gives it."""
    found = [curves.Panel(workload, _lines(group)) for workload, group in rows.items()]
    chart = Chart("steps between checkpoints", "useful share", reference=1.0, share=True)

    def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
        return bool(found)

    def draw(
        analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant
    ) -> Sheet:
        return draw_panels(found, chart, palette, variant)

    kind = "a synthetic trace" if trace.synthetic else "a recorded trace"
    return Figure(
        "goodput",
        "Goodput against the interval",
        f"Steps that were not lost, as a share of those of a job without checkpoints and failures, "
        f"under {kind}: {trace.name}.",
        "Useful share of the steps against the interval, one line a system; the numbers are those "
        "of goodput.csv.",
        drawable,
        draw,
        data="goodput.csv",
    )


def _lines(rows: Sequence[GoodputRow]) -> tuple[curves.Line, ...]:
    points: dict[str, list[curves.Point]] = {}
    for row in rows:
        points.setdefault(row.label, []).append(
            curves.Point(at=float(row.every), value=row.replay_share)
        )
    return tuple(curves.Line(label, label, tuple(each)) for label, each in points.items())
