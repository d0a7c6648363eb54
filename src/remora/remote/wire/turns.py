"""Whose turn it is to write: what is small goes before the next chunk of what is large."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable


class Turns:
    """One writer at a time. A chunk is written when nothing small waits."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.take_now: Callable[[], bool] = functools.partial(self._turn.acquire, False)
        """Take the turn if nobody has it."""
        self._given = threading.Condition()
        self._waiting = 0
        self._small = 0
        """Those of the waiting that have something small."""

    def take(self, *, small: bool, timeout_s: float | None = None) -> bool:
        """Wait for a turn; False when the time is over. Each one taken is given back."""
        if (small or not self._small) and self._turn.acquire(blocking=False):
            return True
        with self._given:
            self._waiting += 1
            self._small += small
            try:
                return self._given.wait_for(lambda: self._came(small), timeout_s)
            finally:
                self._waiting -= 1
                self._small -= small
                if small:
                    self._given.notify_all()  # a chunk may have waited for this one only

    def _came(self, small: bool) -> bool:
        return (small or not self._small) and self._turn.acquire(blocking=False)

    def give(self) -> None:
        """The turn is over."""
        self._turn.release()
        if self._waiting:  # who began to wait after the release has found the turn free
            with self._given:
                self._given.notify_all()
