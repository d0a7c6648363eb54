"""Charts with one row an arm and one panel a workload, on a wide sheet or a phone's.

On the wide sheet an arm's name stands left of its row and a note right of it; on the narrow one
both stand above, so that a long name never meets a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remora.core.colours import Palette
from remora.lab.report.figures.canvas import FONT_PX, Sheet, Variant, sheet
from remora.lab.report.figures.legend import Key, draw_legend, legend_height
from remora.lab.report.figures.scale import Scale

_GUTTER_PX = {"wide": (190.0, 196.0), "narrow": (14.0, 18.0)}
_ROW_PX = {"wide": 30.0, "narrow": 48.0}
_TITLE_PX, _AXIS_PX, _GAP_PX = 30.0, 44.0, 14.0
_BETWEEN_VIEWS_PX = 30.0
_FULL_SHARE = 0.4
_STRIP_PX = 11.0
_NAME_CHARACTERS = {"wide": 24, "narrow": 22}

Span = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """An arm's name, what is written beside it, and the tone of that."""

    name: str
    note: str
    tone: str = "ink"


@dataclass(frozen=True)
class View:
    """A part of the horizontal axis, and what is written under it."""

    scale: Scale
    axis: str
    write: Callable[[float], str]


@dataclass(frozen=True)
class Panel:
    """One workload. ``paint(axes, y, index)`` draws row ``index`` with its middle at ``y``.

    ``near`` is a closer view of the rows ``near_rows``, for arms that a common axis squeezes:
    beside the whole on the wide sheet, under it on the narrow one. ``ground(axes, spans)`` paints
    what lies under the rows, within the vertical ``spans`` that hold no words.
    """

    title: str
    whole: View
    rows: Sequence[Row]
    paint: Callable[[Any, float, int], None]
    ground: Callable[[Any, Sequence[Span]], None] | None = None
    near: View | None = None
    near_rows: Sequence[int] = ()


def row_chart(
    palette: Palette, variant: Variant, panels: Sequence[Panel], legend: Sequence[Key]
) -> Sheet:
    """All panels, one below the other, under the legend."""
    if variant == "narrow":
        panels = [part for panel in panels for part in _stacked(panel)]
    top = legend_height(legend, variant)
    heights = [_TITLE_PX + len(p.rows) * _ROW_PX[variant] + _AXIS_PX for p in panels]
    drawn = sheet(palette, variant, top + sum(heights) + _GAP_PX * (len(panels) - 1))
    draw_legend(drawn, legend)
    for panel, height in zip(panels, heights, strict=True):
        _panel(drawn, panel, top)
        top += height + _GAP_PX
    return drawn


def _stacked(panel: Panel) -> list[Panel]:
    """The panel, and its closer view as a panel of its own."""
    if panel.near is None:
        return [panel]
    near = replace(
        panel,
        title=f"{shortened(panel.title, 28)}, closer",
        whole=panel.near,
        near=None,
        rows=[panel.rows[index] for index in panel.near_rows],
        paint=lambda axes, y, index: panel.paint(axes, y, panel.near_rows[index]),
    )
    return [replace(panel, near=None), near]


def _panel(drawn: Sheet, panel: Panel, top: float) -> None:
    left, right = _GUTTER_PX[drawn.variant]
    room = drawn.width - left - right
    drawn.text(0, top + 14, shortened(panel.title, 40), weight="bold")
    for index, row in enumerate(panel.rows):
        _words(drawn, row, top + _TITLE_PX + index * _ROW_PX[drawn.variant])
    if panel.near is None:
        _view(drawn, panel, panel.whole, (left, top), room)
        return
    full = room * _FULL_SHARE
    _view(drawn, panel, panel.whole, (left, top), full)
    beside = left + full + _BETWEEN_VIEWS_PX
    _view(drawn, panel, panel.near, (beside, top), room - full - _BETWEEN_VIEWS_PX)


def _view(
    drawn: Sheet, panel: Panel, view: View, corner: tuple[float, float], width: float
) -> None:
    row_px, palette = _ROW_PX[drawn.variant], drawn.palette
    height = len(panel.rows) * row_px
    axes = drawn.axes(corner[0], corner[1] + _TITLE_PX, width, height)
    view.scale.apply(axes, view.write)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    middles = [(i + (0.5 if drawn.wide else 0.71)) * row_px for i in range(len(panel.rows))]
    spans = [(0.0, height)] if drawn.wide else [(y - _STRIP_PX, y + _STRIP_PX) for y in middles]
    for low, high in spans:
        axes.vlines(view.scale.ticks, low, high, colors=palette["grid"], lw=1, zorder=0.5)
    if panel.ground is not None:
        panel.ground(axes, spans)
    axes.set_xlabel(view.axis, color=palette["muted"], labelpad=5, fontsize=FONT_PX)
    for index, middle in enumerate(middles):
        panel.paint(axes, middle, index)


def _words(drawn: Sheet, row: Row, top: float) -> None:
    baseline = top + (_ROW_PX["wide"] / 2 + 4 if drawn.wide else 17)
    name = shortened(row.name, _NAME_CHARACTERS[drawn.variant])
    drawn.text(0, baseline, name)
    place, side = (drawn.width - 184, "left") if drawn.wide else (drawn.width, "right")
    drawn.text(place, baseline, row.note, row.tone, ha=side)


def shortened(text: str, characters: int) -> str:
    """``text``, its middle left out where it is too long: the end often tells arms apart."""
    if len(text) <= characters:
        return text
    kept = characters - 1
    return f"{text[: kept - kept // 3]}…{text[-(kept // 3) :]}"
