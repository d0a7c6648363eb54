"""A high-priority job's requests, counted in its slot: a few microseconds each.

A request is a forward of a root module. Its beginning is counted when the program begins it, its
end when the device is done with what it has issued. Where several threads serve at once, the gate
opens when the device is done with all: the last to end has the number written, behind its own work
and that of the others.
"""

from __future__ import annotations

import threading
from threading import get_ident

from remora.share.gate.driver import Driver, Mark
from remora.share.gate.memory import Slot

TIMED_EVERY = 8
"""Of so many stretches of requests one is timed: on a device that takes two marks."""


class Serving:
    """One job's requests on one device."""

    def __init__(self, slot: Slot, driver: Driver) -> None:
        self._slot, self._driver = slot, driver
        self._under_way: set[int] = set()
        """Threads within a forward. One whose forward raised is out at the end of its next."""
        self._marks: list[Mark] = []
        """Behind what threads have issued that ended while others were under way."""
        self._lock = threading.Lock()
        self._stretches = 0
        self._timed: list[Mark] = []

    def begins(self, _: object = None) -> None:
        """This thread begins a forward."""
        if self._driver.is_capturing():
            return  # nothing is computed now
        with self._lock:
            if not self._under_way:
                self._begin_stretch()
            self._under_way.add(get_ident())
            self._slot.begin()

    def ends(self, _: object = None) -> None:
        """This thread's forward is over, for the program."""
        with self._lock:
            if get_ident() not in self._under_way:
                return  # it began before anybody listened
            self._under_way.discard(get_ident())
            if self._driver.is_capturing():
                return  # the next to end writes
            if self._under_way:
                self._marks.append(self._driver.mark())
            else:
                self._end_stretch()

    def end(self) -> None:
        """Nobody listens any more: whatever is under way is not told of."""
        with self._lock:
            self._under_way.clear()
            if self._slot.is_shut:
                self._write()

    def _begin_stretch(self) -> None:
        if self._stretches % TIMED_EVERY == 0 and not self._timed:
            self._timed.append(self._driver.mark())
        self._stretches += 1

    def _end_stretch(self) -> None:
        self._write()
        if len(self._timed) == 1:
            self._timed.append(self._driver.mark())
        if len(self._timed) == 2 and all(mark.is_reached() for mark in self._timed):
            self._slot.note(self._driver.elapsed_ns(*self._timed))
            self._timed.clear()

    def _write(self) -> None:
        slot = self._slot
        self._driver.write_behind(slot.pairs, slot.done_at, slot.begun, self._marks)
        self._marks = []
