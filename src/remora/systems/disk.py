"""A disk slower than this machine's: when would what was written be durable on it?

The same arithmetic throttles every system that writes files, whatever library writes them: a
checkpoint is written as fast as the machine allows, and counts as durable only when a disk of the
stated bandwidth, which serves one write after another, would have had the time for its bytes. The
thread that waits for durability sleeps for the difference, without the interpreter's lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from remora.core.errors import BadValue

UNLIMITED = 0
_MEGABYTE = 10**6


class Disk:
    """Bandwidth of ``mb_s`` million bytes a second; 0 adds nothing to what the machine takes."""

    def __init__(
        self,
        mb_s: int = UNLIMITED,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if mb_s < 0:
            raise BadValue(
                f"disk_mb_s={mb_s} is no bandwidth; choose MB a second, or 0 for no limit"
            )
        self._bytes_per_s = mb_s * _MEGABYTE
        self._clock, self._sleep = clock, sleep
        self._idle_from = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds on the disk's clock."""
        return self._clock()

    def accept(self, size: int, began: float) -> float:
        """Charge a write of ``size`` bytes that began at ``began``; when it would be durable."""
        if not self._bytes_per_s:
            return began
        with self._lock:
            self._idle_from = max(self._idle_from, began) + size / self._bytes_per_s
            return self._idle_from

    def wait_until(self, moment: float) -> None:
        """Sleep until ``moment``, unless it has passed."""
        while (left := moment - self._clock()) > 0:
            self._sleep(left)

    def wait_until_idle(self) -> None:
        """Sleep until everything accepted would be durable."""
        self.wait_until(self._idle_from)
