"""The colours of the report: one set of names, a value for each in the light and the dark theme.

Figures are drawn in ``SENTINEL`` colours, which occur nowhere else, and the page puts CSS variables
in their place; so figures follow the reader's theme as the text does.
"""

from __future__ import annotations

from collections.abc import Mapping

Palette = Mapping[str, str]

LIGHT: Palette = {
    "paper": "#ffffff",
    "wash": "#f4f7f8",
    "line": "#d5dee2",
    "ink": "#14232b",
    "muted": "#4c606a",
    "accent": "#0b6480",
    "grid": "#e3eaed",
    "noise": "#cfe0e6",
    "margin": "#eaf2f4",
    "same": "#0b6480",
    "same-wash": "#e2f1f6",
    "worse": "#a8380b",
    "worse-wash": "#fdece4",
    "better": "#256b34",
    "better-wash": "#e5f4e7",
    "unsure": "#7a5200",
    "unsure-wash": "#fcf1d8",
    "void": "#5b4a78",
    "void-wash": "#efeaf7",
}

DARK: Palette = {
    "paper": "#10181c",
    "wash": "#172227",
    "line": "#33444c",
    "ink": "#e6eef1",
    "muted": "#b0c1c9",
    "accent": "#6cc6e2",
    "grid": "#24323a",
    "noise": "#2c4a57",
    "margin": "#1b2a31",
    "same": "#6cc6e2",
    "same-wash": "#12323e",
    "worse": "#ff9d72",
    "worse-wash": "#40210f",
    "better": "#86d394",
    "better-wash": "#153620",
    "unsure": "#efc35c",
    "unsure-wash": "#3a2c0b",
    "void": "#c4b1ea",
    "void-wash": "#2d2440",
}

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
    "void": "void",
}


def css_variables(palette: Palette) -> str:
    """Declarations for a ``:root`` rule."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


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
