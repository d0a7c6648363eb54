"""The colours of every page: one set of names, a value for each in the light and the dark theme."""

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


def css_variables(palette: Palette) -> str:
    """Declarations for a ``:root`` rule."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())
