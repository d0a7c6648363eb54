"""What the wanted properties of a value follow from, told faster than the properties themselves.

Calls of one function are given the same again and again: tensors of one dtype, the same switches.
Equal signatures have equal properties, so these are read once and then looked up. What is told of a
value is told by a callable of C wherever there is one: it is asked at every call of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter
from typing import Any

from remora.check.calls import Known
from remora.check.conditions import ABSENT
from remora.check.values import (
    CONSTANT,
    GETTERS,
    MAPPING,
    MODULE,
    OTHER,
    PLAIN,
    SEQUENCE,
    TENSOR,
    plain_items,
    sort_of,
)

MOST_KNOWN = 1024
"""So many different properties of one function's calls are kept; then it begins anew."""

Tell = Callable[[Any], Hashable]
_OF_TENSORS = ("dtype", "ndim", "shape", "requires_grad")
_ITS_OWN = frozenset(suffix for suffix, _ in GETTERS[OTHER]) - {"kind"}
"""Properties that follow from no more than the value itself, now."""


class Signing(dict[type, Tell | None]):
    """By type, what tells values of it apart that differ in what is wanted of them.

    The signature of a value is its type and what is told of it. None for a type whose values have
    no signature: their properties have to be read.

    Args:
        wanted: suffixes, or empty for the value itself.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = frozenset(wanted)

    def __missing__(self, kind: type) -> Tell | None:
        found = self[kind] = _telling(kind, self._wanted)
        return found


def _telling(kind: type, wanted: frozenset[str]) -> Tell | None:
    """``type`` where the type has told all there is to tell."""
    sort = sort_of(kind)
    if not wanted:
        return type
    if sort == PLAIN:
        return type if kind is type(None) else kind  # called on one of them, it gives that one
    if sort == CONSTANT:
        return str
    if sort == SEQUENCE:
        return _plain_or_not if wanted == {""} else None
    if sort == MAPPING:
        return type if wanted == {"kind"} else None
    if sort not in (TENSOR, MODULE, OTHER) or wanted & _ITS_OWN:
        return None
    if kind is type(ABSENT):
        return id
    told = [name for name in _OF_TENSORS if name in wanted] if sort == TENSOR else []
    if told:
        return attrgetter(*told)
    return _training if sort == MODULE and "training" in wanted else type


def _plain_or_not(items: Any) -> Hashable:
    plain = plain_items(items)
    return None if plain is None else tuple(zip(map(type, plain), plain, strict=True))


def _training(module: Any) -> Any:
    return module.__dict__.get("training")


class KnownProperties(dict[Hashable, Known]):
    """By signature, the properties that go with it."""

    def meet(self, signature: Hashable, properties: dict[str, Any]) -> Known:
        if len(self) >= MOST_KNOWN:
            self.clear()
        found = self[signature] = Known(properties)
        return found
