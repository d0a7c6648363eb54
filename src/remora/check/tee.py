"""One run's events to several sinks, to each in the same order."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence

from remora.check.calls import Call
from remora.check.observation import Look, Observation
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

    def looks(self, function: str) -> tuple[Look, ...]:
        return tuple(dict.fromkeys(look for sink in self._sinks for look in sink.looks(function)))

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.changed(call, observations)

    def measures(self, function: str) -> frozenset[str]:
        return frozenset().union(*(sink.measures(function) for sink in self._sinks))

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.measured(call, numbers)

    def compared(self) -> frozenset[str]:
        return frozenset().union(*(sink.compared() for sink in self._sinks))

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.compare(step, contents)

    def step_ended(self, step: int) -> None:
        with self._lock:
            for sink in self._sinks:
                sink.step_ended(step)
