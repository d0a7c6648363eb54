"""The colours of figures, which follow the page's theme.

Figures are drawn in ``SENTINEL`` colours, which occur nowhere else, and the page puts CSS variables
in their place; so figures follow the reader's theme as the text does.
"""

from __future__ import annotations

from remora.core.colours import LIGHT, Palette

SENTINEL: Palette = {name: f"#01fe{index:02x}" for index, name in enumerate(LIGHT)}

TEXT_ON: tuple[tuple[str, str], ...] = (
    *((ink, ground) for ink in ("ink", "muted", "accent") for ground in ("paper", "wash")),
    *((tone, ground) for tone in ("same", "worse", "better", "unsure", "void")
      for ground in ("paper", "wash", f"{tone}-wash")),
    *((ink, ground) for ink in ("ink", "muted") for ground in ("noise", "margin")),
)  # fmt: skip
"""Every pair of a text colour and the ground that it may stand on."""

VERDICT_TONES = {
    "no cost": "same",
    "costs": "worse",
    "gains": "better",
    "undecided": "unsure",
    "failed": "worse",
    "void": "void",
}


def with_variables(drawing: str) -> str:
    """A drawing in ``SENTINEL`` colours as one in CSS variables."""
    return in_palette(drawing, {name: f"var(--{name})" for name in SENTINEL})


def in_palette(drawing: str, palette: Palette) -> str:
    """A drawing in ``SENTINEL`` colours as one in those of ``palette``."""
    for name, value in SENTINEL.items():
        drawing = drawing.replace(value, palette[name])
    return drawing


def contrast(first: str, second: str) -> float:
    """Contrast of two ``#rrggbb`` colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    bright, dim = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
