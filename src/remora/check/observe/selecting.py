"""Read a few properties of a value, and pay for no others.

A reader is made once for what is wanted of one parameter, and finds exactly what
:func:`remora.check.values.properties` would have found of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from remora.check.values import (
    CONSTANT,
    DEEPEST,
    GETTERS,
    LONGEST_TEXT,
    MAPPING,
    MOST_ITEMS,
    PLAIN,
    SEQUENCE,
    TENSOR,
    class_name,
    known_keys,
    plain_items,
    properties,
    sort_of,
    text_of,
)

Reader = Callable[[Any, dict[str, Any]], None]
ALL = "*"


def readers(wanted: Iterable[str]) -> dict[str, Reader]:
    """By parameter, what reads the wanted properties of it."""
    return {root: reader(root, frozenset(rests)) for root, rests in below(wanted).items()}


def below(wanted: Iterable[str]) -> dict[str, set[str]]:
    """By parameter, what is wanted of it: ``dtype``, ``0.shape``; empty for the value itself."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in wanted:
        root, _, rest = name.partition(".")
        found[root].add(rest)
    return found


def everything(name: str) -> Reader:
    def read(value: Any, into: dict[str, Any]) -> None:
        properties(name, value, into)

    return read


def reader(name: str, wanted: frozenset[str], depth: int = 0) -> Reader:
    """What reads ``wanted`` (``dtype``, ``0.shape``; empty for the value itself) of ``name``."""
    general = _Reader(name, wanted, depth)
    own = [(f"{name}.{suffix}", get) for suffix, get in GETTERS[TENSOR] if suffix in wanted]
    if len(own) != 1:
        return general.read
    (full, get), other = own[0], general.read

    def read(value: Any, into: dict[str, Any]) -> None:
        if sort_of(type(value)) == TENSOR:
            if (found := get(value)) is not None:
                into[full] = found
        else:
            other(value, into)

    return read


class _Reader:
    def __init__(self, name: str, wanted: frozenset[str], depth: int) -> None:
        self._name, self._itself = name, "" in wanted
        self._getters = {
            sort: [(f"{name}.{suffix}", get) for suffix, get in getters if suffix in wanted]
            for sort, getters in GETTERS.items()
        }
        self._kind, self._length = "kind" in wanted, "length" in wanted
        self._below: dict[str, Reader] = {}
        if depth < DEEPEST:
            self._below = {
                root: reader(f"{name}.{root}", rests, depth + 1)
                for root, rests in _by_first(wanted).items()
            }
        self._by_sort: dict[int, Reader] = {
            PLAIN: self._of_plain,
            SEQUENCE: self._of_sequence,
            MAPPING: self._of_mapping,
            CONSTANT: self._of_constant,
        }

    def read(self, value: Any, into: dict[str, Any]) -> None:
        sort = sort_of(type(value))
        if (getters := self._getters.get(sort)) is not None:
            for full, get in getters:
                if (found := get(value)) is not None:
                    into[full] = found
        else:
            self._by_sort[sort](value, into)

    def _of_plain(self, value: Any, into: dict[str, Any]) -> None:
        if self._itself and (type(value) is not str or len(value) <= LONGEST_TEXT):
            into[self._name] = value

    def _of_constant(self, value: Any, into: dict[str, Any]) -> None:
        if self._itself:
            into[self._name] = text_of(value)

    def _of_sequence(self, items: Any, into: dict[str, Any]) -> None:
        if self._length:
            into[f"{self._name}.length"] = len(items)
        if not (self._itself or self._below):
            return
        if (plain := plain_items(items)) is not None:
            if self._itself:
                into[self._name] = plain
            return
        known = min(len(items), MOST_ITEMS)
        for key, read in self._below.items():
            if key.isdecimal() and int(key) < known:
                read(items[int(key)], into)

    def _of_mapping(self, mapping: Any, into: dict[str, Any]) -> None:
        if self._kind:
            into[f"{self._name}.kind"] = class_name(type(mapping))
        if not isinstance(mapping, dict):
            return
        if self._length:
            into[f"{self._name}.length"] = len(mapping)
        if self._below:
            for key in known_keys(mapping):
                if (read := self._below.get(key)) is not None:
                    read(mapping[key], into)


def _by_first(wanted: Iterable[str]) -> dict[str, frozenset[str]]:
    """``0.shape`` and ``0.dtype`` as ``{"0": {"shape", "dtype"}}``; not the value itself."""
    return {root: frozenset(rests) for root, rests in below(wanted).items() if root}
