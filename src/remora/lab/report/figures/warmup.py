"""Warm-up: step time against step index, one small panel an arm, one line a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from remora.core.colours import Palette
from remora.lab.report.figures.canvas import FONT_PX, Sheet, Variant, sheet
from remora.lab.report.figures.rows import shortened
from remora.lab.report.figures.samples import Measured, envelope, measured
from remora.lab.report.figures.scale import around
from remora.lab.results import Analysis, Trial

_COLUMNS = {"wide": 3, "narrow": 2}
_PANEL_PX, _NAME_PX, _AXIS_PX, _LEFT_PX, _GAP_PX = 84.0, 22.0, 34.0, 44.0, 10.0
_HEADING_PX, _LEGEND_PX = 34.0, 26.0
_POINTS = 240
_FEWEST = 4


def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
    """Whether any trial has steps enough to warm up in."""
    return any(t.samples is not None and len(t.samples.step_ns) >= _FEWEST for t in trials)


def draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    """The arms of each workload under its name, each with its own vertical axis from zero."""
    groups: dict[str, list[tuple[str, list[Measured]]]] = {}
    found = measured(analysis, trials)
    for arm in analysis.plan.arms:
        if found[arm.name]:
            groups.setdefault(arm.workload, []).append((arm.label, found[arm.name]))
    columns, cell = _COLUMNS[variant], _NAME_PX + _PANEL_PX + _AXIS_PX
    tall = sum(_HEADING_PX + math.ceil(len(g) / columns) * cell for g in groups.values())
    drawn = sheet(palette, variant, _LEGEND_PX + tall)
    _legend(drawn)
    top = _LEGEND_PX
    for workload, arms in groups.items():
        drawn.text(0, top + 18, f"{shortened(workload, 24)}: ms against step", weight="bold")
        top += _HEADING_PX
        for index, (label, group) in enumerate(arms):
            _arm(drawn, index % columns, top + index // columns * cell, label, group)
        top += math.ceil(len(arms) / columns) * cell
    return drawn


def _arm(drawn: Sheet, column: int, top: float, label: str, group: Sequence[Measured]) -> None:
    columns = _COLUMNS[drawn.variant]
    width = (drawn.width - _GAP_PX * (columns - 1)) / columns
    left = column * (width + _GAP_PX)
    drawn.text(left, top + 13, shortened(label, 32 if drawn.wide else 20))
    axes = drawn.axes(left + _LEFT_PX, top + _NAME_PX, width - _LEFT_PX - 14, _PANEL_PX)
    _axes(axes, group, drawn.palette)
    for entry in group:
        _trace(axes, entry, drawn.palette)


def _axes(axes: Any, group: Sequence[Measured], palette: Palette) -> None:
    longest = max(len(entry.steps_ms) for entry in group)
    steps = around([0.0, float(max(longest - 1, 1))], 4)
    axes.set_xlim(-0.02 * longest, longest - 1 + 0.02 * longest + 0.5)
    ticks = [tick for tick in steps.ticks if tick <= longest]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    times = around([0.0, *(float(entry.steps_ms.max()) for entry in group)], 3)
    axes.set_ylim(0, times.high)
    axes.set_yticks(times.ticks, [f"{tick:g}" for tick in times.ticks])
    axes.tick_params(axis="y", pad=3)
    axes.hlines(times.ticks, *axes.get_xlim(), colors=palette["grid"], lw=1, zorder=0.5)
    axes.tick_params(labelsize=FONT_PX)


def _trace(axes: Any, entry: Measured, palette: Palette) -> None:
    index, values = envelope(entry.steps_ms, _POINTS)
    axes.plot(index, values, color=palette["accent"], lw=1.1, alpha=0.65, zorder=2)
    settled = entry.summary.settled_from if entry.summary else None
    if settled is not None and settled < len(entry.steps_ms):
        axes.plot([settled], [entry.steps_ms[settled]], ls="none", marker="o", ms=6,
                  color=palette["paper"], mec=palette["worse"], mew=1.6, zorder=4)  # fmt: skip


def _legend(drawn: Sheet) -> None:
    axes = drawn.axes(0, 0, drawn.width, _LEGEND_PX)
    axes.set_xlim(0, drawn.width)
    axes.set_ylim(_LEGEND_PX, 0)
    axes.set_axis_off()
    palette, y = drawn.palette, 11.0
    axes.plot([0, 16], [y, y], color=palette["accent"], lw=1.5)
    drawn.text(24, y + 4, "one trial", "muted")
    axes.plot([112], [y], ls="none", marker="o", ms=6, color=palette["paper"],
              mec=palette["worse"], mew=1.6)  # fmt: skip
    drawn.text(124, y + 4, "settled from here",
               "muted")  # fmt: skip
