"""Counters of things: by how much each has grown since the last call on the same thing."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from remora.check.observe.moment import Moment
from remora.check.observe.readings import Numbers, Reading, Readings, plain

_BATCHES = "num_batches_tracked"
Count = Callable[[Any], Any]
"""The counts of a thing now: a tensor of one dimension or a list; None where it has none."""


class Counting:
    """Follows one counter of every thing that a function is called on. Holds them weakly.

    Args:
        remembers: tell the growth since the last call; else since this one began.
    """

    def __init__(self, name: str, count: Count, *, remembers: bool = True) -> None:
        self._name, self._count, self._remembers = name, count, remembers
        self._last: weakref.WeakKeyDictionary[Any, list[float]] = weakref.WeakKeyDictionary()

    def before(self, thing: Any, moment: Moment) -> tuple[Readings, Any]:
        """At the first call on ``thing`` its counts are read, to be held against those after."""
        if not self._remembers:
            self._last.pop(thing, None)
        if thing in self._last or (counts := self._count(thing)) is None:
            return [], None
        return [Reading(counts, lambda values: self._keep(thing, values))], None

    def after(self, thing: Any, before: Any, moment: Moment) -> Readings:
        counts = self._count(thing)
        if counts is None:
            return []
        return [Reading(counts, lambda values: self._grown(thing, values))]

    def _keep(self, thing: Any, values: Sequence[float]) -> Numbers:
        self._last[thing] = list(values)
        return {}

    def _grown(self, thing: Any, values: Sequence[float]) -> Numbers:
        """The least growth of several counts; those that were not there began at 0."""
        before = self._last.get(thing, [])
        self._keep(thing, values)
        if len(before) != len(values):
            before = [0.0] * len(values)
        grown = [now - then for now, then in zip(values, before, strict=True)]
        return {self._name: float(min(grown))} if grown else {}


def steps_of(optimizer: Any) -> Any:
    """How many steps its state counts, by the first parameter in it."""
    state = next(iter(optimizer.state.values()), None)
    return _as_row(state["step"]) if isinstance(state, dict) and "step" in state else None


class Batches:
    """How many batches each part of a module that is in training mode has kept statistics of."""

    def __init__(self) -> None:
        self._parts: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    def __call__(self, module: Any) -> Any:
        if (parts := self._parts.get(module)) is None:
            known = [part for part in module.modules() if _BATCHES in part._buffers]
            parts = self._parts[module] = [weakref.ref(part) for part in known]
        there = [part for ref in parts if (part := ref()) is not None and part.training]
        found = [part._buffers[_BATCHES] for part in there if _BATCHES in part._buffers]
        counts = [one for one in found if one is not None]
        return sys.modules["torch"].stack(counts) if counts else None


def epoch_of(scheduler: Any) -> Any:
    epoch = getattr(scheduler, "last_epoch", None)
    return [epoch] if type(epoch) in (int, float) else None


def _as_row(count: Any) -> Any:
    count = plain(count)
    if type(count) in (int, float):
        return [count]
    return count.detach().reshape(-1)[:1] if hasattr(count, "detach") else None
