"""A sheet measured in CSS pixels, so that 12 means 12 on a phone, and what it is saved as."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from remora.core.colours import Palette

Variant = Literal["wide", "narrow"]
Format = Literal["pdf", "svg", "png"]

VARIANTS: tuple[Variant, Variant] = ("wide", "narrow")
WIDTH_PX = {"wide": 880.0, "narrow": 356.0}
FONT_PX = 12.0
_DPI = 72  # one point is one pixel

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT_PX,
    "svg.fonttype": "none",
    "svg.hashsalt": "remora",
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.parse_math": False,  # a label may hold a dollar sign
    "mathtext.default": "regular",
}


@dataclass(frozen=True)
class Sheet:
    """Where a figure is drawn. Lengths are pixels from the top left corner."""

    figure: Figure
    palette: Palette
    variant: Variant
    height: float

    @property
    def width(self) -> float:
        return WIDTH_PX[self.variant]

    @property
    def wide(self) -> bool:
        return self.variant == "wide"

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes in the given place, in the house's colours."""
        place = (left / self.width, 1 - (top + height) / self.height,
                 width / self.width, height / self.height)  # fmt: skip
        axes = self.figure.add_axes(place)
        axes.set_facecolor("none")
        axes.spines["bottom"].set_color(self.palette["line"])
        axes.tick_params(colors=self.palette["muted"], length=0, pad=4, labelsize=FONT_PX)
        return axes

    def text(self, x: float, y: float, words: str, tone: str = "ink", **style: Any) -> None:
        """Words at a place; ``y`` is their baseline unless ``va`` says otherwise."""
        self.figure.text(x / self.width, 1 - y / self.height, words,
                         color=self.palette[tone], **{"va": "baseline", **style})  # fmt: skip


def sheet(palette: Palette, variant: Variant, height: float) -> Sheet:
    """An empty sheet; drawing happens under :func:`settings`."""
    size = (WIDTH_PX[variant] / _DPI, height / _DPI)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="none")
    FigureCanvasAgg(figure)
    return Sheet(figure, palette, variant, height)


def settings() -> Any:
    """A context in which every figure is drawn and saved, whatever the user's matplotlibrc says."""
    return mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", **_SETTINGS})


def saved(drawn: Sheet, form: Format) -> bytes:
    """The bytes of a figure: the same for the same drawing, without a date or a version."""
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Creator": "remora", "Producer": None, "CreationDate": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
    }
    ground = "none" if form == "svg" else drawn.palette["paper"]
    target = io.BytesIO()
    drawn.figure.savefig(target, format=form, dpi=_DPI if form != "png" else 2.5 * _DPI,
                         facecolor=ground, metadata=metadata[form])  # fmt: skip
    return target.getvalue()
