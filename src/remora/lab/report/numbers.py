"""How a number is written for people: few digits, a unit, spaces that do not break.

Nothing here computes; a number that is missing, infinite or not a number is written ``–``.
"""

from __future__ import annotations

import math

NBSP = "\u00a0"
THIN = "\u202f"
MINUS = "\u2212"
NONE = "–"
HUGE = 1e15
"""Beyond any quantity measured here; written with an exponent rather than with all its digits."""


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def decimals(value: float, digits: int = 3) -> int:
    """How many decimals show ``digits`` significant digits of ``value``, none for thousands.

    >>> decimals(0.0123), decimals(1.5), decimals(250.0), decimals(1234.0)
    (4, 2, 0, 0)
    """
    if value == 0 or not math.isfinite(value):
        return 0
    exponent = math.floor(math.log10(abs(value)))
    if round(abs(value), digits - 1 - exponent) >= 10.0 ** (exponent + 1):
        exponent += 1
    return max(0, digits - 1 - exponent)


def fixed(value: float, places: int) -> str:
    """``value`` with ``places`` decimals and thin spaces between thousands; never ``−0``."""
    text = f"{value:,.{places}f}".replace(",", THIN)
    return _signed(text if any(digit in text for digit in "123456789") else text.lstrip("-"))


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, as many as four for thousands: ``0.0123``, ``85.2``, ``12 350``."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= HUGE:
        return _signed(f"{value:.2e}")
    if abs(value) >= 10_000:
        value = float(f"{value:.4g}")
    return fixed(value, decimals(value, digits))


def count(value: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NONE if value is None else fixed(value, 0)


def quantity(value: float | None, unit: str) -> str:
    """A number and its unit, not parted at a line's end."""
    return f"{significant(value)}{NBSP}{unit}" if _known(value) and unit else significant(value)


def ratio_places(value: float) -> int:
    """Decimals of a ratio: fine near one, where overheads of a per cent must show."""
    return 3 if value < 2 else 2 if value < 10 else 1 if value < 100 else 0


def ratio(value: float | None) -> str:
    """A ratio to native: ``1.052×``."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= HUGE:
        return f"{significant(value)}×"
    return f"{fixed(value, ratio_places(value))}×"


def interval(low: float | None, high: float | None, places: int | None = None) -> str:
    """``[1.048, 1.056]``, both ends with the same decimals."""
    if low is None or high is None:
        return NONE
    if places is None:
        places = ratio_places(low)
    return f"[{_end(low, places)},{NBSP}{_end(high, places)}]"


def _end(value: float, places: int) -> str:
    return fixed(value, places) if math.isfinite(value) else ("∞" if value > 0 else f"{MINUS}∞")


def overhead(value: float | None) -> str:
    """The overhead of a ratio, in per cent: 1.052 is ``+5.2 %``."""
    if value is None or not math.isfinite(value):
        return NONE
    percent = (value - 1) * 100
    if abs(percent) >= HUGE:
        return f"{significant(percent)}{NBSP}%"
    text = fixed(percent, 1 if abs(percent) < 99.95 else 0)
    sign = "+" if percent > 0 and text.strip("0.") else ""
    return f"{sign}{text}{NBSP}%"


def share(value: float | None) -> str:
    """A share as per cent: 0.05 is ``5 %``."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{_signed(f'{value * 100:.3g}')}{NBSP}%"


def p_value(value: float | None) -> str:
    """A p-value: two digits, three decimals at most; ``<0.001`` below."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def effect(value: float | None) -> str:
    """An effect size: two decimals, fewer where it is large."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= HUGE:
        return significant(value)
    return fixed(value, min(2, decimals(value)) if value else 2)
