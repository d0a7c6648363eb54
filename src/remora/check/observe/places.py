"""Get the tensors of many variables at once: those of one module or optimizer by one look at it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from remora.check.observation import BUFFER, STATE
from remora.check.observe.owners import states_of

if TYPE_CHECKING:
    from remora.check.observe.variable import Variable


class Places:
    """Where variables are found; for gradients, where their parameters are."""

    def __init__(self, variables: Sequence[Variable]) -> None:
        self._runs = list(_runs(variables))

    def tensors(self) -> list[Any]:
        """What is there now; None where nothing is."""
        found: list[Any] = []
        for owner, entries, run in self._runs:
            if owner is None:
                found += [get() for get in run]
            elif (thing := owner()) is None:
                found += [None] * len(run)
            elif entries == _STATE:
                found += states_of(thing, run)
            else:
                found += map(getattr(thing, entries).get, run)
        return found


Run = tuple[weakref.ref[Any] | None, str, list[Any]]
"""A module, the name of its entries, and the keys of some of these; an optimizer, and entries of
its state; or ways to get tensors."""
_STATE = "state"


def _runs(variables: Sequence[Variable]) -> Iterator[Run]:
    for place, run in itertools.groupby(variables, _place_of):
        if place is None:
            yield None, "", [one.get for one in run]
        elif place[1] == _STATE:
            yield *place, [one.get for one in run]
        else:
            yield *place, [one.attribute for one in run]


def _place_of(variable: Variable) -> tuple[weakref.ref[Any], str] | None:
    if variable.owner is None:
        return None
    where = {BUFFER: "_buffers", STATE: _STATE}.get(variable.kind, "_parameters")
    return variable.owner, where
