"""Stalls: how long each checkpoint held the job up, every one as a mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remora.core.colours import Palette
from remora.lab.report import numbers
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.legend import MIDDLE_OF_LEGEND, Key
from remora.lab.report.figures.rows import Panel, Row, View, row_chart
from remora.lab.report.figures.samples import Array, joined, measured
from remora.lab.report.figures.scale import around
from remora.lab.report.tables import ArmRow, arm_rows, by_workload, mean
from remora.lab.results import Analysis, Trial


def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
    """Whether any service call was timed."""
    return any(trial.samples is not None and trial.samples.stall_ns for trial in trials)


def draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    """One panel for each workload with stalls, one row for each arm that stalled."""
    found = measured(analysis, trials)
    stalls = {name: joined([e.stalls_ms for e in group]) for name, group in found.items()}
    rows = [row for row in arm_rows(analysis) if len(stalls[row.arm.name])]
    panels = [
        _panel(name, group, [stalls[row.arm.name] for row in group], palette, variant)
        for name, group in by_workload(rows).items()
    ]
    return row_chart(palette, variant, panels, _legend(palette))


def _panel(
    name: str, rows: Sequence[ArmRow], stalls: Sequence[Array], palette: Palette, variant: Variant
) -> Panel:
    ticks = 8 if variant == "wide" else 5
    scale = around((float(v) for group in stalls for v in group), ticks, zero=True)

    def paint(axes: Any, y: float, index: int) -> None:
        _marks(axes, y, stalls[index], palette)
        middle = mean(rows[index].cell.stall_ms)
        if middle is not None:
            axes.plot([middle], [y], ls="none", marker="|", ms=18, mew=2.5, color=palette["ink"])

    return Panel(
        title=name,
        whole=View(scale, "stall, ms" + (", log scale" if scale.log else ""), _write),
        rows=[Row(row.arm.label, _note(row), "muted") for row in rows],
        paint=paint,
    )


def _write(tick: float) -> str:
    return f"{tick:g}"


def _note(row: ArmRow) -> str:
    spread = row.cell.stall_ms
    if spread is None:
        return numbers.NONE
    return f"mean {numbers.quantity(spread.mean, 'ms')}, n = {numbers.count(spread.count)}"


def _marks(axes: Any, y: float, values: Array, palette: Palette) -> None:
    axes.plot(values, [y] * len(values), ls="none", marker="o", ms=7, color=palette["accent"],
              alpha=0.45, mew=0, zorder=3)  # fmt: skip


def _legend(palette: Palette) -> list[Key]:
    y = MIDDLE_OF_LEGEND

    def dot(axes: Any, x: float) -> None:
        axes.plot([x], [y], ls="none", marker="o", ms=7, color=palette["accent"], alpha=0.45, mew=0)

    def middle(axes: Any, x: float) -> None:
        axes.plot([x], [y], ls="none", marker="|", ms=14, mew=2.5, color=palette["ink"])

    return [Key("one checkpoint", dot), Key("mean", middle)]
