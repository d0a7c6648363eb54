"""How fast to send, and how long to wait after a failure. Pure: time is passed in."""

from __future__ import annotations


class Pace:
    """Keeps the average rate at ``bytes_s``; None for as fast as it goes."""

    def __init__(self, bytes_s: float | None) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0

    def wait_s(self, nbytes: int, now: float) -> float:
        """``nbytes`` have just been sent, at ``now`` seconds: how long to wait before more."""
        if self._bytes_s is None:
            return 0.0
        takes = nbytes / self._bytes_s
        self._free_at = max(self._free_at, now - takes) + takes  # sending took time as well
        return self._free_at - now


class Backoff:
    """Waits that double from ``first_s`` to ``most_s``."""

    def __init__(self, first_s: float = 1.0, most_s: float = 60.0) -> None:
        self._first_s, self._most_s = first_s, most_s
        self.failures = 0
        """In a row."""

    def failed(self) -> float:
        """How many seconds to wait now."""
        wait = min(self._first_s * 2.0 ** min(self.failures, 30), self._most_s)
        self.failures += 1
        return wait

    def succeeded(self) -> None:
        self.failures = 0
