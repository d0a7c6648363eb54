"""Charts with one row an arm and one panel a workload, on a wide sheet or a phone's.

On the wide sheet an arm's name stands left of its row and a note right of it; on the narrow one
both stand above, so that a long name never meets a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from remora.lab.report.figures.canvas import FONT_PX, Sheet, Variant, sheet
from remora.lab.report.figures.scale import Scale
from remora.lab.report.palette import Palette

_GUTTER_PX = {"wide": (200.0, 200.0), "narrow": (8.0, 8.0)}
_ROW_PX = {"wide": 30.0, "narrow": 44.0}
_TITLE_PX, _AXIS_PX, _GAP_PX, _LEGEND_PX = 30.0, 44.0, 14.0, 22.0
_NAME_CHARACTERS = {"wide": 24, "narrow": 22}


@dataclass(frozen=True)
class Row:
    """An arm's name, what is written beside it, and the tone of that."""

    name: str
    note: str
    tone: str = "ink"


@dataclass(frozen=True)
class Panel:
    """One workload. ``paint(axes, y, index)`` draws row ``index`` with its middle at ``y``."""

    title: str
    axis: str
    scale: Scale
    write: Callable[[float], str]
    rows: Sequence[Row]
    paint: Callable[[Any, float, int], None]
    ground: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Key:
    """An entry of the legend: what ``draw(axes, x)`` paints, and its words."""

    words: str
    draw: Callable[[Any, float], None]


def row_chart(
    palette: Palette, variant: Variant, panels: Sequence[Panel], legend: Sequence[Key]
) -> Sheet:
    """All panels, one below the other, under the legend."""
    lines = _legend_lines(legend, variant)
    top = len(lines) * _LEGEND_PX + (8.0 if lines else 0.0)
    heights = [_TITLE_PX + len(p.rows) * _ROW_PX[variant] + _AXIS_PX for p in panels]
    drawn = sheet(palette, variant, top + sum(heights) + _GAP_PX * (len(panels) - 1))
    for index, line in enumerate(lines):
        _legend(drawn, line, index * _LEGEND_PX)
    for panel, height in zip(panels, heights, strict=True):
        _panel(drawn, panel, top)
        top += height + _GAP_PX
    return drawn


def _panel(drawn: Sheet, panel: Panel, top: float) -> None:
    left, right = _GUTTER_PX[drawn.variant]
    row_px = _ROW_PX[drawn.variant]
    drawn.text(0, top + 14, shortened(panel.title, 44), weight="bold")
    height = len(panel.rows) * row_px
    axes = drawn.axes(left, top + _TITLE_PX, drawn.width - left - right, height)
    panel.scale.apply(axes, panel.write)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.vlines(panel.scale.ticks, 0, height, colors=drawn.palette["grid"], lw=1, zorder=0.5)
    if panel.ground is not None:
        panel.ground(axes)
    axes.set_xlabel(panel.axis, color=drawn.palette["muted"], labelpad=5, fontsize=FONT_PX)
    for index, row in enumerate(panel.rows):
        middle = (index + (0.5 if drawn.wide else 0.68)) * row_px
        _words(drawn, row, top + _TITLE_PX + index * row_px)
        panel.paint(axes, middle, index)


def _words(drawn: Sheet, row: Row, top: float) -> None:
    baseline = top + (_ROW_PX["wide"] / 2 + 4 if drawn.wide else 17)
    name = shortened(row.name, _NAME_CHARACTERS[drawn.variant])
    edge = 0.0 if drawn.wide else _GUTTER_PX["narrow"][0]
    drawn.text(edge, baseline, name)
    place, side = (drawn.width - 190, "left") if drawn.wide else (drawn.width - edge, "right")
    drawn.text(place, baseline, row.note, row.tone, ha=side)


def shortened(text: str, characters: int) -> str:
    """``text``, its middle left out where it is too long: the end often tells arms apart."""
    if len(text) <= characters:
        return text
    kept = characters - 1
    return f"{text[: kept - kept // 3]}…{text[-(kept // 3) :]}"


_KEY_PX = 24.0
_LETTER_PX = 7.4


def _key_width(key: Key) -> float:
    return _KEY_PX + len(key.words) * _LETTER_PX + 18


def _legend_lines(legend: Sequence[Key], variant: Variant) -> list[list[Key]]:
    """The entries, broken into lines that fit the sheet."""
    room = 880.0 if variant == "wide" else 356.0
    lines: list[list[Key]] = []
    used = room
    for key in legend:
        if used + _key_width(key) - 18 > room:
            lines.append([])
            used = 0.0
        lines[-1].append(key)
        used += _key_width(key)
    return lines


def _legend(drawn: Sheet, keys: Sequence[Key], top: float) -> None:
    axes = drawn.axes(0, top, drawn.width, _LEGEND_PX)
    axes.set_xlim(0, drawn.width)
    axes.set_ylim(_LEGEND_PX, 0)
    axes.set_axis_off()
    left = 0.0
    for key in keys:
        key.draw(axes, left + 8)
        drawn.text(left + _KEY_PX, top + _LEGEND_PX / 2 + 4, key.words, "muted")
        left += _key_width(key)


MIDDLE_OF_LEGEND = _LEGEND_PX / 2
