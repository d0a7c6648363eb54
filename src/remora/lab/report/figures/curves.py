"""Curves: a quantity of every arm against an option, one line a system, one panel a workload."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from remora.core.colours import Palette
from remora.lab.report.curves import Line, Panel, Point, panels
from remora.lab.report.figures.canvas import FONT_PX, Sheet, Variant, sheet
from remora.lab.report.figures.legend import MIDDLE_OF_LEGEND, Key, draw_legend, legend_height
from remora.lab.report.figures.rows import shortened
from remora.lab.report.figures.scale import LOG_SPREAD, Scale, around
from remora.lab.results import Analysis, Curve

_PANEL_PX = {"wide": 264.0, "narrow": 244.0}
_COLUMNS = {"wide": 2, "narrow": 1}
_LEFT_PX, _RIGHT_PX, _TITLE_PX, _AXIS_PX, _GAP_PX = 52.0, 12.0, 30.0, 46.0, 18.0
_TONES = ("muted", "worse", "better", "unsure", "void", "ink")
_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
OWN = "remora"
"""What the names of our own systems begin with: theirs is the accent, on top of the others."""


@dataclass(frozen=True)
class Chart:
    """What is written at the axes, and how the vertical one is laid out."""

    across: str
    upwards: str
    reference: float | None = None
    """Where something that costs nothing would lie: a line across."""
    share: bool = False
    """From 0 to 1, more only where an estimate is: bounds beyond are cut."""
    zero: bool = False
    """From 0, unless the values lie far apart."""


_CHARTS = {
    "throughput": Chart("", "throughput × native", reference=1.0, share=True),
    "slowdown": Chart("", "slow-down × native", reference=1.0),
    "durable_ms": Chart("", "ms until durable", zero=True),
}


@dataclass(frozen=True)
class _Look:
    tone: str
    marker: str
    dash: Any
    width: float

    @property
    def order(self) -> int:
        return 6 if self.tone == "accent" else 3


def drawable(analysis: Analysis, curve: Curve) -> bool:
    """Whether any line has two points."""
    return bool(panels(analysis, curve))


def draw(analysis: Analysis, curve: Curve, palette: Palette, variant: Variant) -> Sheet:
    """The curve's lines, one panel a workload."""
    chart = replace(_CHARTS[curve.quantity], across=curve.axis)
    return draw_panels(panels(analysis, curve), chart, palette, variant)


def draw_panels(found: Sequence[Panel], chart: Chart, palette: Palette, variant: Variant) -> Sheet:
    """Panels in reading order under a common legend; both axes are the same in all."""
    looks = _looks([line for panel in found for line in panel.lines])
    legend = _legend(looks, found, palette)
    columns = min(_COLUMNS[variant], max(1, len(found)))
    rows = -(-len(found) // columns)
    pitch = _TITLE_PX + _PANEL_PX[variant] + _AXIS_PX + _GAP_PX
    top = legend_height(legend, variant)
    drawn = sheet(palette, variant, top + rows * pitch - _GAP_PX)
    draw_legend(drawn, legend)
    scales = _scales(found, chart)
    width = drawn.width / columns
    for index, panel in enumerate(found):
        corner = (width * (index % columns), top + pitch * (index // columns))
        _panel(drawn, panel, chart, looks, scales, (*corner, width))
    return drawn


def _looks(lines: Sequence[Line]) -> dict[str, _Look]:
    """A look for each line's words, the same in every panel. Never by colour alone."""
    looks: dict[str, _Look] = {}
    others = itertools.count()
    own = itertools.count()
    for words, system in dict.fromkeys((line.words, line.system) for line in lines):
        if system.startswith(OWN):
            place = next(own)
            mark = ("o", *_MARKERS)[place % (1 + len(_MARKERS))]
            looks[words] = _Look("accent", mark, _DASHES[place % len(_DASHES)], 2.6)
        else:
            place = next(others)
            dash = _DASHES[place // len(_TONES) % len(_DASHES)]
            looks[words] = _Look(
                _TONES[place % len(_TONES)], _MARKERS[place % len(_MARKERS)], dash, 1.6
            )
    return looks


def _scales(found: Sequence[Panel], chart: Chart) -> tuple[Scale, Scale]:
    """The horizontal scale, whose ticks are the values themselves, and the vertical one."""
    points = [point for panel in found for line in panel.lines for point in line.points]
    values = [point.value for point in points]
    bounds = [bound for p in points for bound in (p.low, p.high) if bound is not None]
    across = _across(sorted({point.at for point in points}))
    if chart.share:
        return across, around([0.0, max(1.0, *values)], 6, zero=True)
    reference = [] if chart.reference is None else [chart.reference]
    return across, around([*values, *bounds, *reference], 6, zero=chart.zero)


def _across(places: Sequence[float]) -> Scale:
    first, last = places[0], places[-1]
    if last / first > LOG_SPREAD:
        air = (last / first) ** 0.05
        return Scale(first / air, last * air, True, tuple(_apart(places)))
    room = 0.06 * (last - first)
    return Scale(first - room, last + room, False, tuple(places))


def _apart(places: Sequence[float]) -> list[float]:
    """Of the values on a logarithmic axis, those far enough apart for their words."""
    least = (places[-1] / places[0]) ** 0.075
    kept = [places[0]]
    for place in places[1:]:
        if place / kept[-1] >= least:
            kept.append(place)
    return kept


def _panel(
    drawn: Sheet,
    panel: Panel,
    chart: Chart,
    looks: dict[str, _Look],
    scales: tuple[Scale, Scale],
    place: tuple[float, float, float],
) -> None:
    left, top, width = place
    palette = drawn.palette
    drawn.text(left, top + 14, f"{shortened(panel.title, 24)}: {chart.upwards}",
               weight="bold")  # fmt: skip
    axes = drawn.axes(left + _LEFT_PX, top + _TITLE_PX, width - _LEFT_PX - _RIGHT_PX,
                      _PANEL_PX[drawn.variant])  # fmt: skip
    _frame(axes, scales, palette)
    axes.set_xlabel(chart.across, color=palette["muted"], labelpad=5, fontsize=FONT_PX)
    if chart.reference is not None:
        axes.axhline(chart.reference, color=palette["muted"], lw=1, zorder=0.6)
    for line in panel.lines:
        _line(axes, line, looks[line.words], palette)


def _frame(axes: Any, scales: tuple[Scale, Scale], palette: Palette) -> None:
    across, upwards = scales
    across.apply(axes, lambda tick: f"{tick:g}")
    axes.set_yscale("log" if upwards.log else "linear")
    axes.set_ylim(upwards.low, upwards.high)
    axes.set_yticks(upwards.ticks, [f"{tick:g}" for tick in upwards.ticks])
    axes.set_yticks([], minor=True)
    axes.hlines(upwards.ticks, across.low, across.high, colors=palette["grid"], lw=1, zorder=0.5)


def _line(axes: Any, line: Line, look: _Look, palette: Palette) -> None:
    colour = palette[look.tone]
    axes.plot([p.at for p in line.points], [p.value for p in line.points], color=colour,
              lw=look.width, ls=look.dash, zorder=look.order)  # fmt: skip
    for point in line.points:
        if point.low is not None and point.high is not None:
            axes.plot([point.at] * 2, [point.low, point.high], color=colour, lw=1,
                      zorder=look.order)  # fmt: skip
        _mark(axes, (point.at, point.value), look, palette, filled=point.complete)


def _mark(
    axes: Any, place: tuple[float, float], look: _Look, palette: Palette, filled: bool = True
) -> None:
    colour, paper = palette[look.tone], palette["paper"]
    axes.plot([place[0]], [place[1]], ls="none", marker=look.marker, ms=7.5,
              color=colour if filled else paper, mec=paper if filled else colour,
              mew=1 if filled else 1.6, zorder=look.order + 1, clip_on=False)  # fmt: skip


def _legend(looks: dict[str, _Look], found: Sequence[Panel], palette: Palette) -> list[Key]:
    keys = [_key(words, look, palette) for words, look in looks.items()]
    points = [point for panel in found for line in panel.lines for point in line.points]
    return [*keys, *_hollow_key(points, palette)]


def _key(words: str, look: _Look, palette: Palette) -> Key:
    def paint(axes: Any, x: float) -> None:
        axes.plot([x - 6, x + 9], [MIDDLE_OF_LEGEND] * 2, color=palette[look.tone],
                  lw=look.width, ls=look.dash)  # fmt: skip
        _mark(axes, (x + 1, MIDDLE_OF_LEGEND), look, palette)

    return Key(words, paint)


def _hollow_key(points: Sequence[Point], palette: Palette) -> list[Key]:
    """Said only where there is one: a mark that is hollow made fewer checkpoints than were due."""
    if all(point.complete for point in points):
        return []

    def paint(axes: Any, x: float) -> None:
        look = _Look("ink", "o", "-", 1.0)
        _mark(axes, (x + 1, MIDDLE_OF_LEGEND), look, palette, filled=False)

    return [Key("hollow: fewer checkpoints than asked for", paint)]
