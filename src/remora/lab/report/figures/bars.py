"""Bars on a logarithmic axis: groups of them, each with its interval and a reference of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remora.core.colours import Palette
from remora.lab.report.figures.canvas import WIDTH_PX, Sheet, Variant, sheet
from remora.lab.report.figures.legend import MIDDLE_OF_LEGEND, Key, draw_legend, legend_height
from remora.lab.report.figures.rows import shortened

_COLUMNS = {"wide": 6, "narrow": 2}
"""Groups of all kinds in a row, at most."""
_ROW_PX, _NAMES_PX, _GAP_PX = 210.0, 42.0, 18.0
_BELOW_PX = 16.0
_MOST_PX = 56.0
"""Of a bar and its room, where there are few."""
_LEAST_PX = 112.0
"""Of a group of few bars, so that its name has room."""
_TOP_PX = 8.0
_BAR = 0.8
"""Of the room of a bar, how much it fills."""
_BETWEEN = 1.0
"""Between two groups, in bars."""
_LETTER_PX = 8.0
_FAR = 3.0
_TONES = ("muted", "worse", "unsure", "accent", "better", "void", "ink")


@dataclass(frozen=True)
class Bar:
    """One value, all of them ratios. None is a bar that could not be measured."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    """What others have given for it."""


@dataclass(frozen=True)
class Group:
    """Bars under one name, one for each of the chart's kinds, in their order."""

    name: str
    bars: Sequence[Bar]
    floor: float = 0.0
    """Within 1 ± this nothing is claimed."""
    kinds: Sequence[int] | None = None
    """Which of the chart's kinds its bars are, where it has not one of each."""
    below: str = ""
    """A second line under its name."""


@dataclass(frozen=True)
class BarChart:
    """``kinds`` are the words of the bars of every group, ``reference`` those of their marks."""

    kinds: Sequence[str]
    reference: str
    groups: Sequence[Group]
    write: Callable[[float], str] = "{:g}×".format
    """How a value of the axis is written."""
    left_px: float = 46.0
    """Room for that."""


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: tuple[float, ...]


def draw_bars(chart: BarChart, palette: Palette, variant: Variant) -> Sheet:
    """The groups in reading order, as many in a row as there is room for; one axis for all."""
    legend = _legend(chart, palette)
    placing = _Placing.of(chart, variant)
    rows = list(placing.rows())
    names_px = _NAMES_PX + _BELOW_PX * any(group.below for group in chart.groups)
    pitch = _TOP_PX + _ROW_PX + names_px + _GAP_PX
    top = legend_height(legend, variant)
    drawn = sheet(palette, variant, top + len(rows) * pitch - _GAP_PX)
    draw_legend(drawn, legend)
    axis = _axis(chart)
    for index, groups in enumerate(rows):
        _row(drawn, groups, axis, placing, top + index * pitch + _TOP_PX)
    return drawn


@dataclass(frozen=True)
class _Placing:
    """Which groups stand beside one another, in widths of a bar."""

    chart: BarChart
    width: float
    """Of a row."""
    bar_px: float

    @classmethod
    def of(cls, chart: BarChart, variant: Variant) -> _Placing:
        whole = len(chart.kinds) + _BETWEEN
        room = _COLUMNS[variant] * whole
        if all(group.kinds is None for group in chart.groups):
            room = min(_COLUMNS[variant], len(chart.groups)) * whole
        width_px = WIDTH_PX[variant] - chart.left_px
        room = max(room, width_px / _MOST_PX)
        return cls(chart, room, width_px / room)

    def span(self, group: Group) -> float:
        """Of a group, with the room between it and others."""
        least = 0.0 if group.kinds is None else _LEAST_PX / self.bar_px
        return max(float(len(group.bars)), least) + _BETWEEN

    def rows(self) -> Iterator[list[Group]]:
        """The groups, row by row, in order."""
        row: list[Group] = []
        for group in self.chart.groups:
            if row and sum(map(self.span, [*row, group])) > self.width + 1e-6:
                yield row
                row = []
            row.append(group)
        yield row


def _axis(chart: BarChart) -> _Axis:
    """Powers of ten, or of two where there are few of those, around everything that is shown."""
    shown = [1.0, 1.5, *(value for group in chart.groups for value in _values(group))]
    low, high = min(shown) / 1.15, max(shown) * 1.25
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[int, ...] = (1,) if high / low > 100 else (1, 2, 5)
    ticks = tuple(m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high)
    return _Axis(low, high, ticks)


def _values(group: Group) -> Iterator[float]:
    """Bounds far beyond their value are cut: they say only that little is known."""
    for bar in group.bars:
        if bar.reference is not None:
            yield bar.reference
        if bar.value is not None:
            yield bar.value
            yield max(bar.low or bar.value, bar.value / _FAR)
            yield min(bar.high or bar.value, bar.value * _FAR)


def _row(
    drawn: Sheet,
    groups: Sequence[Group],
    axis: _Axis,
    placing: _Placing,
    top: float,
) -> None:
    chart, bar_px = placing.chart, placing.bar_px
    end = sum(map(placing.span, groups))
    axes = drawn.axes(chart.left_px, top, end * bar_px, _ROW_PX)
    axes.set_xlim(0, end)
    axes.set_xticks([])
    axes.set_yscale("log")
    axes.set_ylim(axis.low, axis.high)
    axes.set_yticks(axis.ticks, [chart.write(tick) for tick in axis.ticks])
    axes.set_yticks([], minor=True)
    axes.hlines(axis.ticks, 0, end, colors=drawn.palette["grid"], lw=1, zorder=0.5)
    begin = 0.0
    for group in groups:
        span = placing.span(group)
        left = begin + (span - len(group.bars)) / 2
        _group(axes, group, left, drawn.palette)
        corner = (chart.left_px + left * bar_px, top + _ROW_PX)
        _names(drawn, group, corner, bar_px, span * bar_px)
        begin += span


def _group(axes: Any, group: Group, left: float, palette: Palette) -> None:
    right = left + len(group.bars)
    axes.fill_between([left, right], max(1e-3, 1 - group.floor), 1 + group.floor,
                      color=palette["noise"], lw=0, zorder=0.4)  # fmt: skip
    axes.hlines([1.0], left, right, colors=palette["muted"], lw=1, zorder=5)
    for place, (kind, bar) in enumerate(zip(_kinds(group), group.bars, strict=True)):
        _bar(axes, bar, left + place + 0.5, palette[_tone(kind)], palette)


def _kinds(group: Group) -> Sequence[int]:
    return range(len(group.bars)) if group.kinds is None else group.kinds


def _bar(axes: Any, bar: Bar, middle: float, colour: str, palette: Palette) -> None:
    if bar.value is not None:
        axes.bar([middle], [bar.value - 1], bottom=1, width=_BAR, color=colour, lw=0, zorder=2)
    if bar.low is not None and bar.high is not None:
        low = max(bar.low, axes.get_ylim()[0])
        axes.plot([middle] * 2, [low, bar.high], color=palette["paper"], lw=4, zorder=3)
        axes.plot([middle] * 2, [low, bar.high], color=palette["ink"], lw=1.5, zorder=3.1)
    if bar.reference is not None:
        axes.plot([middle], [bar.reference], ls="none", marker="D", ms=6.5, mew=1.6,
                  color=palette["paper"], mec=palette["ink"], zorder=6, clip_on=False)  # fmt: skip


def _names(
    drawn: Sheet, group: Group, corner: tuple[float, float], bar_px: float, room: float
) -> None:
    """A letter under each bar, a dash under one that is missing; below them the group's name."""
    left, top = corner
    for place, (kind, bar) in enumerate(zip(_kinds(group), group.bars, strict=True)):
        words = letter(kind) if bar.value is not None else "–"
        drawn.text(left + (place + 0.5) * bar_px, top + 14, words, "muted", ha="center")
    name = shortened(group.name, max(8, int(room / _LETTER_PX)))
    middle = left + len(group.bars) * bar_px / 2
    drawn.text(middle, top + 32, name, weight="bold", ha="center")
    if group.below:
        drawn.text(middle, top + 32 + _BELOW_PX, group.below, "muted", ha="center")


def letter(index: int) -> str:
    """What stands for the kind number ``index``, so that bars are not told by colour alone."""
    return chr(ord("a") + index)


def _tone(index: int) -> str:
    return _TONES[index % len(_TONES)]


def _legend(chart: BarChart, palette: Palette) -> list[Key]:
    keys = [
        _key(f"{letter(index)}  {words}", palette[_tone(index)], "s", palette)
        for index, words in enumerate(chart.kinds)
    ]
    if any(bar.reference is not None for group in chart.groups for bar in group.bars):
        keys.append(_key(chart.reference, palette["paper"], "D", palette))
    if any(group.floor for group in chart.groups):
        keys.append(_key("noise floor", palette["noise"], "s", palette))
    return keys


def _key(words: str, colour: str, marker: str, palette: Palette) -> Key:
    edge = palette["ink"] if marker == "D" else palette["line"]

    def paint(axes: Any, x: float) -> None:
        axes.plot([x], [MIDDLE_OF_LEGEND], ls="none", marker=marker, color=colour, mec=edge,
                  ms=7 if marker == "D" else 11, mew=1.6 if marker == "D" else 1)  # fmt: skip

    return Key(words, paint)
