"""The legend: marks and their words, in as many lines as the sheet needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from remora.lab.report.figures.canvas import WIDTH_PX, Sheet, Variant

_LINE_PX = 22.0
_KEY_PX = 26.0
_MARK_PX = 10.0
"""Where the middle of a mark is: what it is drawn with does not touch the edge."""
_LETTER_PX = 7.0
_BETWEEN_PX = 18.0
_BELOW_PX = 8.0
MIDDLE_OF_LEGEND = _LINE_PX / 2


@dataclass(frozen=True)
class Key:
    """An entry of the legend: what ``draw(axes, x)`` paints, and its words."""

    words: str
    draw: Callable[[Any, float], None]


def legend_height(legend: Sequence[Key], variant: Variant) -> float:
    """Pixels that the legend takes, with the room below it; none without entries."""
    lines = _lines(legend, variant)
    return len(lines) * _LINE_PX + (_BELOW_PX if lines else 0.0)


def draw_legend(drawn: Sheet, legend: Sequence[Key]) -> None:
    """At the sheet's top."""
    for index, line in enumerate(_lines(legend, drawn.variant)):
        _draw_line(drawn, line, index * _LINE_PX)


def _width(key: Key) -> float:
    return _KEY_PX + len(key.words) * _LETTER_PX + _BETWEEN_PX


def _lines(legend: Sequence[Key], variant: Variant) -> list[list[Key]]:
    """The entries, broken into lines that fit the sheet."""
    room = WIDTH_PX[variant]
    lines: list[list[Key]] = []
    used = room
    for key in legend:
        if used + _width(key) - _BETWEEN_PX > room:
            lines.append([])
            used = 0.0
        lines[-1].append(key)
        used += _width(key)
    return lines


def _draw_line(drawn: Sheet, keys: Sequence[Key], top: float) -> None:
    axes = drawn.axes(0, top, drawn.width, _LINE_PX)
    axes.set_xlim(0, drawn.width)
    axes.set_ylim(_LINE_PX, 0)
    axes.set_axis_off()
    left = 0.0
    for key in keys:
        key.draw(axes, left + _MARK_PX)
        drawn.text(left + _KEY_PX, top + MIDDLE_OF_LEGEND + 4, key.words, "muted")
        left += _width(key)
