"""How long high-priority work takes when nothing is beside it, by what its job has timed."""

from __future__ import annotations

_DRIFT = 1 / 64
"""By how much of the difference what is expected follows upward: requests may become longer."""


class Expectation:
    """Of each slot, the least that its stretches took on average between two looks."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}
        self._least_ns: dict[int, float] = {}

    def of(self, place: int, stretches: int, total_ns: int) -> int:
        """How long a stretch of slot ``place`` is to take; 0 where nothing is known yet."""
        before, before_ns = self._seen.get(place, (0, 0))
        if stretches < before:  # another job has the slot now
            self._least_ns.pop(place, None)
            before, before_ns = 0, 0
        if stretches > before:
            mean_ns = (total_ns - before_ns) / (stretches - before)
            least_ns = self._least_ns.get(place, mean_ns)
            self._least_ns[place] = min(mean_ns, least_ns + (mean_ns - least_ns) * _DRIFT)
        self._seen[place] = (stretches, total_ns)
        return round(self._least_ns.get(place, 0.0))
