"""One table, many tests: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Sequence

from remora.core.errors import BadValue


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values in the order given; a None (no test was possible) stays None, uncounted.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6:
    rejecting where the adjusted value is below α keeps the chance of any false rejection below α,
    however the tests depend on one another.
    """
    tested = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    if any(not 0 <= value <= 1 for value, _ in tested):
        raise BadValue("a p-value must lie between 0 and 1")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(tested):
        largest = max(largest, min(1.0, value * (len(tested) - rank)))
        adjusted[place] = largest
    return adjusted
