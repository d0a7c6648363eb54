"""Sizes and durations: read from what people type, and written as people read them."""

from __future__ import annotations

import re

from remora.core.errors import BadValue

_SIZES = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
          "kib": 2**10, "mib": 2**20, "gib": 2**30}  # fmt: skip
_SECONDS = {
    "": 1.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Zµ]*)\s*")


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise BadValue(f"{text!r} is not a {what}; write a number and one of {known}: {example}")
    return float(match[1]) * units[match[2].lower()]


def parse_bytes(text: str) -> int:
    """Bytes from text such as ``512MiB`` or ``2g``."""
    return round(_parse(text, _SIZES, "size", "'512MiB'"))


def parse_seconds(text: str) -> float:
    """Seconds from text such as ``90``, ``90s``, ``10m``, ``1.5h`` or ``50us``."""
    return _parse(text, _SECONDS, "duration", "'10m'")


def parse_ns(text: str) -> int:
    """Whole nanoseconds from text such as ``10ms`` or ``50us``."""
    return round(parse_seconds(text) * 1e9)


def parse_fraction(text: str) -> float:
    """A positive fraction from text such as ``5%`` or ``0.05``."""
    stripped = text.strip()
    percent = stripped.endswith("%")
    try:
        value = float(stripped[:-1] if percent else stripped) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise BadValue(f"{text!r} is not a positive share; write it as '5%' or '0.05'")
    return value


def format_bytes(count: float) -> str:
    """Bytes as people read them: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """A duration as people read it: ``85 ms``, ``3.2 s``, ``4 min 05 s``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
