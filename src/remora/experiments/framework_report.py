"""The figure of the second suite, and the files that go with it."""

from __future__ import annotations

from collections.abc import Sequence

from remora.core.colours import Palette
from remora.experiments.disaggregation_tables import speedup_tables, traffic_table
from remora.experiments.framework_overhead import BASELINES, SUITE
from remora.experiments.framework_view import workload_files
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.tables import ArmRow, arm_rows
from remora.lab.results import Analysis, Trial

_DRAWN = [(name, label) for name, label in BASELINES.items() if label != "native"]


def figure() -> Figure:
    """Time × native of every workload and baseline."""
    return Figure(
        "framework_overhead",
        "Framework overhead",
        "Time a step × native in the same blocks, on a logarithmic axis, with its interval; below "
        "1 is faster. All rows of a workload do the same work.",
        "Bars of time a step × native by workload and baseline; the numbers are in the tables.",
        lambda analysis, trials: any(each.ratio is not None for each in analysis.comparisons),
        _draw,
        shown=lambda analysis, trials: (
            *speedup_tables(analysis, trials),
            traffic_table(analysis),
        ),
        beside=workload_files,
    )


def _draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    rows = {(row.arm.workload, row.arm.label): row for row in arm_rows(analysis)}
    present = {workload for workload, _ in rows}
    groups = [
        Group(name, [_bar(rows.get((each.workload, label))) for _, label in _DRAWN])
        for name, each in SUITE.items()
        if each.workload in present
    ]
    return draw_bars(BarChart([name for name, _ in _DRAWN], "", groups), palette, variant)


def _bar(row: ArmRow | None) -> Bar:
    versus = row.comparison if row is not None else None
    if versus is None or versus.verdict == "void":
        return Bar(None)
    between = versus.interval
    low, high = (between.low, between.high) if between is not None else (None, None)
    return Bar(versus.ratio, low, high)
