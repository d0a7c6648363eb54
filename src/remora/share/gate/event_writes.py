"""Writes behind marks by a thread that waits for them: where a device cannot write itself."""

from __future__ import annotations

import _thread
import contextlib
import queue
from collections.abc import Sequence

from remora.share.gate.driver import Mark

Order = tuple[Sequence[Mark], memoryview, int, int]


class EventWrites:
    """One after another, each once all its marks are reached.

    The thread sleeps between; what it costs the program is that it takes Python's lock for a
    moment behind each request. It is none that the program sees, and ends with it.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        _thread.start_new_thread(self._run, ())

    def write(self, marks: Sequence[Mark], words: memoryview, at: int, value: int) -> None:
        """``words[at] = value`` behind ``marks``."""
        self._orders.put((marks, words, at, value))

    def _run(self) -> None:
        while True:
            marks, words, at, value = self._orders.get()
            for mark in marks:
                with contextlib.suppress(RuntimeError):  # the device failed, and is done with that
                    mark.wait()
            words[at] = value
