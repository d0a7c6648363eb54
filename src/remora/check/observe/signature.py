"""What the wanted properties of a value follow from, told faster than the properties themselves.

Calls of one function are given the same again and again: tensors of one dtype, the same switches.
Equal signatures have equal properties, so these are read once and then looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter
from typing import Any

from remora.check.calls import Known
from remora.check.conditions import ABSENT
from remora.check.values import CONSTANT, GETTERS, MODULE, OTHER, PLAIN, TENSOR, sort_of

MOST_KNOWN = 1024
"""So many different properties of one function's calls are kept; then it begins anew."""

Sign = Callable[[Any], Hashable | None]
"""The signature of a value; None where it has none, and its properties have to be read."""
_OF_TENSORS = ("dtype", "ndim", "shape", "requires_grad")
_ITS_OWN = frozenset(suffix for suffix, _ in GETTERS[OTHER]) - {"kind"}
"""Properties that follow from no more than the value itself, now."""


def signing(wanted: Iterable[str]) -> Sign:
    """What signs values of which ``wanted`` is read: suffixes, or empty for the value itself."""
    suffixes = frozenset(wanted)
    by_kind: dict[type, Callable[[Any], Any] | None] = {}
    if not suffixes & _ITS_OWN:
        by_kind[type(ABSENT)] = _is_absent

    def sign(value: Any) -> Hashable | None:
        kind = type(value)
        try:
            get = by_kind[kind]
        except KeyError:
            get = by_kind[kind] = _getter(kind, suffixes)
        return None if get is None else (kind, get(value))

    return sign


def _getter(kind: type, suffixes: frozenset[str]) -> Callable[[Any], Any] | None:
    sort = sort_of(kind)
    if sort in (PLAIN, CONSTANT):
        return _itself
    if sort not in (TENSOR, MODULE, OTHER) or suffixes & _ITS_OWN:
        return None
    told = [name for name in _OF_TENSORS if name in suffixes] if sort == TENSOR else []
    if told:
        return attrgetter(*told)
    return _training if sort == MODULE and "training" in suffixes else _nothing


def _is_absent(value: Any) -> bool:
    return value is ABSENT


def _itself(value: Any) -> Any:
    return value


def _training(module: Any) -> Any:
    return module.__dict__.get("training")


def _nothing(_: Any) -> None:
    return None


class KnownProperties(dict[Hashable, Known]):
    """By signature, the properties that go with it."""

    def meet(self, signature: Hashable, properties: dict[str, Any]) -> Known:
        if len(self) >= MOST_KNOWN:
            self.clear()
        found = self[signature] = Known(properties)
        return found
