"""Overhead: the ratio of step time to native with its interval, over noise floor and margin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from remora.core.colours import Palette
from remora.lab.report import numbers
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.legend import MIDDLE_OF_LEGEND, Key
from remora.lab.report.figures.rows import Panel, Row, Span, View, row_chart
from remora.lab.report.figures.scale import Scale, around, closer, is_near
from remora.lab.report.palette import VERDICT_TONES
from remora.lab.report.tables import ArmRow, absence_text, arm_rows, by_workload, interval_text
from remora.lab.results import Analysis, Trial

MARKS = {"no cost": "o", "costs": "^", "gains": "v", "undecided": "D", "void": "X", "failed": "x"}


def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
    """Whether any arm has a ratio to native."""
    return any(comparison.ratio is not None for comparison in analysis.comparisons)


def draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    """One panel a workload, one row an arm; the axis is the same in all."""
    rows = [row for row in arm_rows(analysis) if row.arm.role != "baseline"]
    shown = _shown(rows, analysis.plan.margin)
    wide = variant == "wide"
    whole = around(shown, 6 if wide else 5)
    near = closer(shown, 1.0, 7 if wide else 5) if whole.log else None
    panels = [
        _panel(name, group, (whole, near), analysis.plan.margin, palette)
        for name, group in by_workload(rows).items()
    ]
    return row_chart(palette, variant, panels, _legend(rows, palette))


def _shown(rows: Sequence[ArmRow], margin: float) -> list[float]:
    """Every value that has to have a place on the axis."""
    shown = [1 - margin, 1 + margin]
    for row in rows:
        shown += _ends(row)
        if row.noise is not None:
            shown += [1 - row.noise.floor, 1 + row.noise.floor]
    return shown


def _ends(row: ArmRow) -> Iterator[float]:
    versus = row.comparison
    if versus is not None and versus.ratio is not None:
        yield versus.ratio
        if versus.interval is not None:
            yield from (versus.interval.low, versus.interval.high)


def _panel(
    name: str,
    rows: Sequence[ArmRow],
    scales: tuple[Scale, Scale | None],
    margin: float,
    palette: Palette,
) -> Panel:
    def paint(axes: Any, y: float, index: int) -> None:
        _whisker(axes, y, rows[index], palette)

    def ground(axes: Any, spans: Sequence[Span]) -> None:
        _bands(axes, spans, rows[0], margin, palette)

    whole, near = scales
    close = [index for index, row in enumerate(rows) if any(is_near(v, 1.0) for v in _ends(row))]
    return Panel(
        title=name,
        whole=_view(whole, "ratio to native" + (", log scale" if whole.log else "")),
        rows=[_row(row) for row in rows],
        paint=paint,
        ground=ground,
        near=_view(near, "ratio to native, close to 1") if near and close else None,
        near_rows=close,
    )


def _view(scale: Scale, axis: str) -> View:
    return View(scale, axis, lambda tick: f"{tick:g}×")


def _row(row: ArmRow) -> Row:
    versus = row.comparison
    if versus is None or versus.ratio is None:
        return Row(row.arm.label, absence_text(row), "muted")
    note = f"{numbers.ratio(versus.ratio)} {interval_text(versus)}"
    return Row(row.arm.label, note, VERDICT_TONES[versus.verdict])


def _bands(axes: Any, spans: Sequence[Span], row: ArmRow, margin: float, palette: Palette) -> None:
    floor = row.noise.floor if row.noise is not None else 0.0
    for low, high in spans:
        for half, tone, order in ((margin, "margin", 0.1), (floor, "noise", 0.2)):
            axes.fill_betweenx([low, high], 1 - half, 1 + half, color=palette[tone], lw=0,
                               zorder=order)  # fmt: skip
        axes.vlines([1.0], low, high, colors=palette["muted"], lw=1, zorder=0.6)


def _whisker(axes: Any, y: float, row: ArmRow, palette: Palette) -> None:
    versus = row.comparison
    if versus is None or versus.ratio is None:
        return
    colour, (left, right) = palette[VERDICT_TONES[versus.verdict]], axes.get_xlim()
    if not left <= versus.ratio <= right:
        edge = (right, 5) if versus.ratio > right else (left, 4)  # carets that point outwards
        axes.plot([edge[0]], [y], ls="none", marker=edge[1], ms=8, color=colour, mew=0, zorder=3)
        return
    if versus.interval is not None:
        ends = [versus.interval.low, versus.interval.high]
        axes.plot(ends, [y, y], color=colour, lw=2, solid_capstyle="butt", zorder=3)
        axes.plot(ends, [y, y], ls="none", marker="|", ms=12, mew=1.5, color=colour, zorder=3)
    axes.plot([versus.ratio], [y], ls="none", marker=MARKS[versus.verdict], ms=8, color=colour,
              mec=palette["paper"], mew=1, zorder=4, clip_on=False)  # fmt: skip


def _legend(rows: Sequence[ArmRow], palette: Palette) -> list[Key]:
    said = {row.comparison.verdict for row in rows if row.comparison and row.comparison.ratio}
    keys = [_mark_key(verdict, palette) for verdict in MARKS if verdict in said]
    keys.append(_band_key("margin: counts as no cost", palette["margin"], palette))
    if any(row.noise for row in rows):
        keys.append(_band_key("noise floor: native against native", palette["noise"], palette))
    return keys


def _mark_key(verdict: str, palette: Palette) -> Key:
    def paint(axes: Any, x: float) -> None:
        axes.plot([x], [MIDDLE_OF_LEGEND], ls="none", marker=MARKS[verdict], ms=9,
                  color=palette[VERDICT_TONES[verdict]], mec=palette["paper"])  # fmt: skip

    return Key(verdict, paint)


def _band_key(words: str, colour: str, palette: Palette) -> Key:
    def paint(axes: Any, x: float) -> None:
        axes.plot([x], [MIDDLE_OF_LEGEND], ls="none", marker="s", ms=11, color=colour,
                  mec=palette["line"], mew=1)  # fmt: skip

    return Key(words, paint)
