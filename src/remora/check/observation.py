"""What is seen of variables: around a call that may change them, as plain facts.

A *variable* is a parameter, its gradient, a buffer or an entry of an optimizer's state. Facts are
told, not contents, so that an event is small and can be kept in a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from remora.check.conditions import Properties

PARAMETER, GRADIENT, BUFFER, STATE = "parameter", "gradient", "buffer", "optimizer state"
KINDS = (PARAMETER, GRADIENT, BUFFER, STATE)

CHANGED, KEPT, NONE, SET = "changed", "kept", "none", "set"
ZERO_OR_NONE, FINITE = "zero or none", "finite"


class Look(NamedTuple):
    """What somebody wants to know of variables at every call of a function."""

    kind: str
    to: str
    """The fact that has to be decided, such as :data:`CHANGED`."""
    module: str = ""
    """Only variables of the module of this name, or the one of this name; all if empty."""
    concerns: Callable[[Properties], bool] | None = None
    """Whether a variable with these properties matters; None if its properties do not matter."""
    exact: bool = False
    """Decide every time, whatever it costs; else what is cheap may leave a fact undecided."""
    whole: bool = False
    """Read every element, however many there are, for what a sample cannot prove."""

    def covers(self, name: str, kind: str) -> bool:
        return kind == self.kind and is_below(name, self.module)


class Observation(NamedTuple):
    """One variable at one call. A fact is None where it was not asked for or is undecided."""

    name: str
    properties: Properties
    """Of the variable, as the call began: ``variable.kind``, ``variable.requires_grad``, …"""
    in_use: bool
    """Whether it belongs to a model that the program has run."""
    none: bool
    """Whether it is None after the call."""
    changed: bool | None = None
    """Whether its content is another than before the call."""
    zero: bool | None = None
    finite: bool | None = None

    def holds(self, to: str) -> bool | None:
        return FACTS[to](self)


class Alike(tuple[Observation, ...]):
    """What is seen at one call: the same object wherever all of it is equal."""

    __slots__ = ()


def _negated(fact: bool | None) -> bool | None:
    return None if fact is None else not fact


FACTS: dict[str, Callable[[Observation], bool | None]] = {
    CHANGED: lambda one: one.changed,
    KEPT: lambda one: _negated(one.changed),
    NONE: lambda one: one.none,
    SET: lambda one: not one.none,
    ZERO_OR_NONE: lambda one: one.none or one.zero,
    FINITE: lambda one: one.none or one.finite,
}
"""By what a call does to a variable: whether it did."""


_DOT = re.compile(r"\.(?![^\[]*\])")
"""Not those within brackets: ``optimizer.exp_avg[model.weight]``."""


def places_of(name: str) -> Iterator[str]:
    """``a.b.c``: ``a``, then ``a.b``, then itself."""
    parts = _DOT.split(name)
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def is_below(name: str, module: str) -> bool:
    """Whether the variable ``name`` belongs to ``module`` or to one within it, or is it."""
    return not module or name == module or name.startswith(f"{module}.")
