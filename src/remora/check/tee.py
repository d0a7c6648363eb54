"""One run's events to several sinks, to each in the same order."""

from __future__ import annotations

import threading

from remora.check.calls import Call
from remora.check.sink import Sink, Wanted


class Tee(Sink):
    """Hands every event to each of ``sinks`` in turn, one event at a time.

    Checkers leave notes on a call under names that they share, so at most one may be among them.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._lock = threading.RLock()  # a finalizer may call a watched function in here

    def wanted(self, function: str) -> Wanted:
        each = [sink.wanted(function) for sink in self._sinks]
        return Wanted(
            frozenset().union(*(one.inputs for one in each)),
            frozenset().union(*(one.outputs for one in each)),
        )

    def begin(self, call: Call) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.begin(call)

    def end(self, call: Call) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.end(call)

    def step_ended(self, step: int) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.step_ended(step)
