"""Where tensors are found: in a module, in an optimizer's groups or in its state.

An *entry* gets one of them; :class:`Places` gets many at once, those of one module or optimizer by
one look at it. Modules and optimizers are held weakly; what is gone is None.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_NOTHING: dict[Any, Any] = {}


class _Entry(ABC):
    """Gets one tensor of its owner, which is held weakly."""

    __slots__ = ()
    owner: weakref.ref[Any]

    def __call__(self) -> Any:
        thing = self.owner()
        return None if thing is None else self._of(thing)

    @abstractmethod
    def _of(self, thing: Any) -> Any:
        """The tensor that ``thing``, its owner, has there; None if it has none."""


@dataclass(frozen=True, slots=True)
class ModuleEntry(_Entry):
    """Gets a tensor of a module's ``_parameters`` or ``_buffers``."""

    owner: weakref.ref[Any]
    where: str
    key: str

    def _of(self, thing: Any) -> Any:
        held = getattr(thing, self.where)  # of a scripted module no dict
        if self.key not in held:
            return None
        return held[self.key]


@dataclass(frozen=True, slots=True)
class GroupEntry(_Entry):
    """Gets a parameter of an optimizer."""

    owner: weakref.ref[Any]
    group: int
    place: int

    def _of(self, thing: Any) -> Any:
        return _trained(thing, [self])[0]


@dataclass(frozen=True, slots=True)
class StateEntry(_Entry):
    """Gets a tensor of an optimizer's state."""

    parameter: GroupEntry
    key: Any

    @property
    def owner(self) -> weakref.ref[Any]:  # type: ignore[override]
        return self.parameter.owner

    def _of(self, thing: Any) -> Any:
        return _states(thing, [self])[0]


Entry = ModuleEntry | GroupEntry | StateEntry


class Places:
    """Gets what several entries get, at each call of :meth:`tensors`."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._runs = [
            (owner, where, _listed(where, run))
            for (owner, where), run in itertools.groupby(entries, _shelf)
        ]

    def tensors(self) -> list[Any]:
        """What is there now, in the order of the entries; None where nothing is."""
        found: list[Any] = []
        for owner, where, run in self._runs:
            if (thing := owner()) is None:
                found += [None] * len(run)
            elif where:
                found += map(getattr(thing, where).get, run)
            else:
                found += _states(thing, run) if type(run[0]) is StateEntry else _trained(thing, run)
        return found


def _listed(where: str, run: Iterable[Any]) -> list[Any]:
    return [one.key for one in run] if where else list(run)


def _shelf(entry: Entry) -> tuple[weakref.ref[Any], str]:
    """Entries with one that is the same are looked up together. An optimizer's have no name."""
    return entry.owner, entry.where if isinstance(entry, ModuleEntry) else ""


def _trained(optimizer: Any, entries: Iterable[GroupEntry]) -> list[Any]:
    groups, found = optimizer.param_groups, []
    for one in entries:
        try:
            found.append(groups[one.group]["params"][one.place])
        except (IndexError, KeyError):
            found.append(None)
    return found


def _states(optimizer: Any, entries: Iterable[StateEntry]) -> list[Any]:
    state, tensors, found = optimizer.state, sys.modules["torch"].Tensor, []
    entries = list(entries)
    parameters = _trained(optimizer, [one.parameter for one in entries])
    for one, parameter in zip(entries, parameters, strict=True):
        value = state.get(parameter, _NOTHING).get(one.key)
        found.append(value if isinstance(value, tensors) else None)
    return found
