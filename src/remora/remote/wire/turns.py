"""Whose turn it is to write: what is small goes before the next chunk of what is large."""

from __future__ import annotations

import threading


class Turns:
    """One writer at a time. A chunk is written when nothing small waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._taken = False
        self._small = 0
        """Waiting with something small."""

    def take(self, *, small: bool, timeout_s: float | None = None) -> bool:
        """Wait for a turn; False when the time is over. Each one taken is given back."""
        with self._changed:
            if not self._taken and (small or not self._small):
                self._taken = True
                return True
            self._small += small
            try:
                came = self._changed.wait_for(lambda: self._is_free(small), timeout_s)
                self._taken = self._taken or came
            finally:
                self._small -= small
                if small:
                    self._changed.notify_all()  # a chunk may have waited for this one only
            return came

    def _is_free(self, small: bool) -> bool:
        return not self._taken and (small or not self._small)

    def take_now(self) -> bool:
        """Take the turn if nobody has it."""
        with self._changed:
            taken, self._taken = self._taken, True
            return not taken

    def give(self) -> None:
        """The turn is over."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()
