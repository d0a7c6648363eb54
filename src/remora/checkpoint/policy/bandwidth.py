"""What storage sustains: bytes over busy seconds of the last checkpoints, not the best of them."""

from __future__ import annotations

from collections import deque

WINDOW = 12
"""Checkpoints that the estimate spans: longer than the bursts a disk's cache allows."""
RECENT = 2
"""So many slow ones in a row are believed at once."""
CLEARLY_SLOWER = 0.6
"""Below this share of the window's rate it is a slow-down; above, jitter that the window evens."""


class Sustained:
    """A sustained rate in bytes per second, quick to fall and slow to rise.

    Believing a slow-down too early costs a few checkpoints; believing a burst makes a queue that
    only grows. So the rate is that of the whole window, unless the last few are clearly slower.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def add(self, size: int, busy_s: float) -> None:
        """``size`` bytes became durable while storage was busy for ``busy_s`` seconds."""
        self._seen.append((size, busy_s))

    def bytes_s(self) -> float | None:
        """The rate; None before anything was written."""
        if not self._seen:
            return None
        recent = _rate(list(self._seen)[-RECENT:])
        window = _rate(list(self._seen))
        return recent if recent < CLEARLY_SLOWER * window else window


class BusyTime:
    """Seconds during which at least one write was on its way: overlapping ones count once.

    The clock is the caller's: every method takes the present time in seconds.
    """

    def __init__(self) -> None:
        self._outstanding = 0
        self._since = 0.0
        self._seconds = 0.0

    def began(self, now_s: float) -> None:
        """One more write is on its way."""
        if self._outstanding == 0:
            self._since = now_s
        self._outstanding += 1

    def ended(self, now_s: float) -> None:
        """One write is done, or has failed."""
        self._outstanding -= 1
        if self._outstanding == 0:
            self._seconds += now_s - self._since

    def take(self, now_s: float) -> float:
        """The busy seconds since the last ``take``."""
        if self._outstanding:
            self._seconds += now_s - self._since
            self._since = now_s
        taken, self._seconds = self._seconds, 0.0
        return taken


def _rate(seen: list[tuple[int, float]]) -> float:
    return sum(size for size, _ in seen) / sum(seconds for _, seconds in seen)
