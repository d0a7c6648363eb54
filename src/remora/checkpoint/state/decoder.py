"""Reading a state's document, which may be damaged or hostile: nothing in it is evaluated.

Whatever a document says, what comes of it is plain values of a closed list of types, no deeper
than :data:`~remora.checkpoint.state.plain.DEEPEST` allows, or :class:`CheckpointDamaged`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import torch

from remora.checkpoint.state.plain import DECODERS, DEEPEST, FACTORIES, Json, numpy_dtype
from remora.core.errors import CheckpointDamaged

_DEEPEST_JSON = 4 * DEEPEST
"""A level of state is at most a tag, its pairs and one pair."""

Leaf = Callable[[str, str | None], torch.Tensor]
"""Gives the tensor that a name and the tag of its dtype stand for."""


def read_document(document: bytes, leaf: Leaf) -> dict[str, Any]:
    """As :func:`unflatten`, with the say over what stands for a tensor. Asked once a name."""
    try:
        nesting = msgspec.json.decode(document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CheckpointDamaged(f"the state's document is no JSON: {error}") from None
    try:
        state = Decoder(leaf).value(nesting, 0)
    except RecursionError:
        raise CheckpointDamaged("the state is nested deeper than this thread's stack") from None
    if type(state) is not dict:
        raise CheckpointDamaged(f"the state's document is a {type(state).__name__}, not a dict")
    return state


class Decoder:
    """One reading of a document."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._seen: dict[tuple[str, str | None], torch.Tensor] = {}

    def value(self, encoded: Json, depth: int) -> Any:
        """What ``encoded`` stands for."""
        if type(encoded) is dict:
            if depth > _DEEPEST_JSON:
                raise CheckpointDamaged(f"the state is nested deeper than {DEEPEST} levels")
            tag = next(iter(encoded), "")
            if tag[:1] == "$":
                return self._tagged(tag, encoded, depth + 1)
            return {key: self.value(item, depth + 1) for key, item in self._untagged(encoded)}
        if type(encoded) is list:
            return self._list(encoded, depth)
        return encoded

    def _untagged(self, encoded: dict[str, Json]) -> Iterator[tuple[str, Json]]:
        for key, item in encoded.items():
            if key[:1] == "$":
                raise CheckpointDamaged(f"the state's document has a dict with a tag {key!r} in it")
            yield key, item

    def _list(self, encoded: Json, depth: int) -> list[Any]:
        if type(encoded) is not list:
            raise CheckpointDamaged(f"a list is wanted in the state, not {_brief(encoded)}")
        if depth > _DEEPEST_JSON:
            raise CheckpointDamaged(f"the state is nested deeper than {DEEPEST} levels")
        return [self.value(item, depth + 1) for item in encoded]

    def _tagged(self, tag: str, encoded: dict[str, Json], depth: int) -> Any:
        _only(encoded, tag, _FURTHER_KEYS.get(tag, ()))
        if tag == "$tensor":
            return self._tensor(encoded)
        if tag == "$array":
            return self._array(encoded, depth)
        if (decode := DECODERS.get(tag)) is not None:
            return _plain(decode, tag, encoded[tag])
        return self._container(tag, encoded, depth)

    def _container(self, tag: str, encoded: dict[str, Json], depth: int) -> Any:
        inner = encoded[tag]
        match tag:
            case "$tuple":
                return tuple(self._list(inner, depth))
            case "$set":
                return _hashed(set, self._list(inner, depth))
            case "$frozenset":
                return _hashed(frozenset, self._list(inner, depth))
            case "$dict":
                return _hashed(dict, self._pairs(inner, depth))
            case "$counter":
                return Counter(self._dict(inner, depth))
            case "$ordered":
                return self._ordered(encoded, depth)
            case "$default" if isinstance(inner, str) and inner in FACTORIES:
                return defaultdict(FACTORIES[inner], self._dict(encoded.get("items"), depth))
            case _:
                raise CheckpointDamaged(f"the state has an unknown tag: {_brief(encoded)}")

    def _dict(self, encoded: Json, depth: int) -> dict[Any, Any]:
        if type(value := self.value(encoded, depth)) is not dict:
            raise CheckpointDamaged(f"a dict is wanted in the state, not {_brief(encoded)}")
        return value

    def _pairs(self, encoded: Json, depth: int) -> list[list[Any]]:
        pairs = self._list(encoded, depth)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise CheckpointDamaged(f"pairs are wanted in the state, not {_brief(encoded)}")
        return pairs

    def _ordered(self, encoded: dict[str, Json], depth: int) -> OrderedDict[Any, Any]:
        ordered = OrderedDict(self._dict(encoded["$ordered"], depth))
        if "versions" in encoded:
            ordered._metadata = self.value(encoded["versions"], depth)  # type: ignore[attr-defined]
        return ordered

    def _tensor(self, encoded: Json) -> torch.Tensor:
        name, tag = encoded["$tensor"], encoded.get("as")
        if type(name) is not str or not (tag is None or type(tag) is str):
            raise CheckpointDamaged(f"no tensor's name: {_brief(encoded)}")
        if (name, tag) not in self._seen:
            self._seen[name, tag] = self._leaf(name, tag)
        return self._seen[name, tag]

    def _array(self, encoded: dict[str, Json], depth: int) -> np.ndarray[Any, Any]:
        tensor = self.value(encoded["$array"], depth)
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointDamaged(f"no array: {_brief(encoded)}")
        if tensor.is_meta:  # only its shape is asked for
            return np.empty(0)
        return _plain(lambda _: _as_array(tensor, encoded), "$array", None)  # type: ignore[no-any-return]


_FURTHER_KEYS = {
    "$tensor": ("as",),
    "$array": ("dtype", "shape"),
    "$ordered": ("versions",),
    "$default": ("items",),
}


def _as_array(tensor: torch.Tensor, encoded: dict[str, Json]) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.cpu().numpy()
    if "dtype" not in encoded:
        return array
    return array.view(numpy_dtype(encoded["dtype"])).reshape(encoded.get("shape"))


def _only(encoded: dict[str, Json], tag: str, further: tuple[str, ...]) -> None:
    if unknown := encoded.keys() - {tag, *further}:
        raise CheckpointDamaged(f"{tag} in the state has unknown keys: {_brief(sorted(unknown))}")


def _plain(decode: Callable[[Json], Any], tag: str, encoded: Json) -> Any:
    try:
        return decode(encoded)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise CheckpointDamaged(f"{tag} in the state: {_brief(encoded)}: {error}") from None


def _hashed(make: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return make(items)
    except TypeError as error:
        raise CheckpointDamaged(f"the state has a key that is none: {error}") from None


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
