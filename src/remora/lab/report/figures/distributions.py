"""Distributions: each arm's settled steps as a bar of quantiles, each trial's mean as a dot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remora.core.colours import Palette
from remora.lab.report import numbers
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.legend import MIDDLE_OF_LEGEND, Key
from remora.lab.report.figures.rows import Panel, Row, View, row_chart
from remora.lab.report.figures.samples import Measured, joined, measured, quantiles
from remora.lab.report.figures.scale import Scale, around, closer, is_near
from remora.lab.report.tables import ArmRow, absence_text, arm_rows, by_workload, mean
from remora.lab.results import Analysis, Trial

_DOT_OFFSET_PX = 9.0


def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
    """Whether any trial has settled steps."""
    found = measured(analysis, trials)
    return any(len(entry.settled_ms) for group in found.values() for entry in group)


def draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    """One panel a workload with its own axis, one row an arm."""
    found = measured(analysis, trials)
    panels = [
        _panel(name, rows, [found[row.arm.name] for row in rows], palette, variant)
        for name, rows in by_workload(arm_rows(analysis)).items()
    ]
    return row_chart(palette, variant, panels, _legend(palette))


def _panel(
    name: str, rows: Sequence[ArmRow], trials: Sequence[Sequence[Measured]],
    palette: Palette, variant: Variant,
) -> Panel:  # fmt: skip
    bars = [_bar(group) for group in trials]
    dots = [_means(group) for group in trials]
    places = [[*bar, *group] for bar, group in zip(bars, dots, strict=True)]
    shown = [value for place in places for value in place]
    whole = around(shown, 6 if variant == "wide" else 5)
    least = min((bar[2] for bar in bars if bar), default=0.0)
    near = closer(shown, least, 6 if variant == "wide" else 5) if whole.log else None

    def paint(axes: Any, y: float, index: int) -> None:
        _paint(axes, y, bars[index], dots[index], palette)

    return Panel(
        title=name,
        whole=_view(whole, "step time, ms" + (", log scale" if whole.log else "")),
        rows=[_row(row) for row in rows],
        paint=paint,
        near=_view(near, "step time, ms, close to the fastest") if near else None,
        near_rows=[i for i, place in enumerate(places) if any(is_near(v, least) for v in place)],
    )


def _view(scale: Scale, axis: str) -> View:
    return View(scale, axis, lambda tick: f"{tick:g}")


def _bar(group: Sequence[Measured]) -> list[float]:
    values = joined([entry.settled_ms for entry in group])
    return quantiles(values) if len(values) else []


def _means(group: Sequence[Measured]) -> list[float]:
    found = (entry.summary.mean_ms for entry in group if entry.summary)
    return [value for value in found if value is not None]


def _row(row: ArmRow) -> Row:
    if row.cell.step_ms is None:
        return Row(row.arm.label, absence_text(row), "muted")
    return Row(row.arm.label, f"mean {numbers.quantity(mean(row.cell.step_ms), 'ms')}", "muted")


def _paint(
    axes: Any, y: float, bar: Sequence[float], dots: Sequence[float], palette: Palette
) -> None:
    upper = y - _DOT_OFFSET_PX / 2
    if bar:
        low, lower, middle, higher, high = bar
        axes.plot([low, high], [upper, upper], color=palette["muted"], lw=1.5, zorder=2)
        axes.plot([lower, higher], [upper, upper], color=palette["accent"], lw=7,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
        axes.plot([middle], [upper], ls="none", marker="|", ms=11, mew=2.5, color=palette["ink"],
                  zorder=4)  # fmt: skip
    axes.plot(dots, [y + _DOT_OFFSET_PX / 2] * len(dots), ls="none", marker="o", ms=6,
              color=palette["paper"], mec=palette["ink"], mew=1.3, zorder=5)  # fmt: skip


def _legend(palette: Palette) -> list[Key]:
    y = MIDDLE_OF_LEGEND

    def wide(axes: Any, x: float) -> None:
        axes.plot([x - 8, x + 8], [y, y], color=palette["muted"], lw=1.5)

    def box(axes: Any, x: float) -> None:
        axes.plot([x - 8, x + 8], [y, y], color=palette["accent"], lw=7, solid_capstyle="butt")

    def middle(axes: Any, x: float) -> None:
        axes.plot([x], [y], ls="none", marker="|", ms=11, mew=2.5, color=palette["ink"])

    def dot(axes: Any, x: float) -> None:
        axes.plot([x], [y], ls="none", marker="o", ms=6, color=palette["paper"],
                  mec=palette["ink"], mew=1.3)  # fmt: skip

    return [Key("p5–p95 of steps", wide), Key("p25–p75", box), Key("median", middle),
            Key("mean of one trial", dot)]  # fmt: skip
