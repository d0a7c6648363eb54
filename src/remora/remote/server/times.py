"""Many times in little room: how many fell between which bounds.

Bounds are a sixteenth of themselves apart, so what is read off is at most that much too long, and
never too short (Tene's HdrHistogram, with fewer digits).
"""

from __future__ import annotations

from remora.remote.messages import TimesTold

_PARTS = 16
"""Bounds between a power of two and the next."""


class Times:
    """Times in nanoseconds that were noted. One thread notes, others may read."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self.count, self.sum_ns, self.most_ns = 0, 0, 0

    def note(self, ns: int) -> None:
        """One more. Below zero counts as none at all."""
        ns = max(0, ns)
        bucket = _bucket(ns)
        self._of[bucket] = self._of.get(bucket, 0) + 1
        self.count += 1
        self.sum_ns += ns
        self.most_ns = max(self.most_ns, ns)

    def percentile_ns(self, share: float) -> int:
        """At most what ``share`` of all took no longer than: an order statistic, rounded up.

        0 where nothing was noted.
        """
        wanted, seen = share * self.count, 0
        for bucket, count in sorted(dict(self._of).items()):
            seen += count
            if seen >= wanted:
                return min(_most_in(bucket), self.most_ns)
        return self.most_ns

    def told(self) -> TimesTold:
        """As a message has them."""
        return TimesTold(
            self.count,
            self.sum_ns,
            self.percentile_ns(0.5),
            self.percentile_ns(0.9),
            self.percentile_ns(0.99),
            self.most_ns,
        )


def _bucket(ns: int) -> int:
    if ns < _PARTS:
        return ns
    shift = ns.bit_length() - _PARTS.bit_length()
    return shift * _PARTS + (ns >> shift)


def _most_in(bucket: int) -> int:
    if bucket < _PARTS:
        return bucket
    shift = bucket // _PARTS - 1
    return ((bucket - shift * _PARTS + 1) << shift) - 1
