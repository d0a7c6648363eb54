"""The index of a torch.distributed.checkpoint, a pickle, read as data.

Nothing that the pickle names is imported or called. The few classes of such an index are stood
in for by records made for one reading; dtypes are looked up by name; all else is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from remora.checkpoint.state.stored import DTYPES
from remora.core.errors import CheckpointDamaged

_METADATA = "torch.distributed.checkpoint.metadata"
_RECORDS = frozenset({
    (_METADATA, "Metadata"),
    (_METADATA, "MetadataIndex"),
    (_METADATA, "TensorStorageMetadata"),
    (_METADATA, "BytesStorageMetadata"),
    (_METADATA, "ChunkStorageMetadata"),
    (_METADATA, "TensorProperties"),
    (_METADATA, "StorageMeta"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"),  # before torch 2.3
})  # fmt: skip
_CALLS = frozenset({
    (_METADATA, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
})  # fmt: skip
"""Calls whose result does not matter here."""
Extent = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A part of an entry and where its bytes are."""

    offsets: Extent
    sizes: Extent
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class Entry:
    """A tensor in pieces or, with ``dtype`` None, an object in one."""

    dtype: torch.dtype | None
    size: Extent
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class DcpIndex:
    """The entries by name and, where it is known, the place of each in a nested state."""

    entries: dict[str, Entry]
    places: dict[str, tuple[str | int, ...]]


def read_index(data: bytes) -> DcpIndex:
    """The index that the bytes of a ``.metadata`` file are.

    Raises:
        CheckpointDamaged: they are none, or name what an index does not have.
    """
    try:
        metadata = _Unpickler(io.BytesIO(data)).load()
    except CheckpointDamaged:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise CheckpointDamaged(f".metadata is no whole index: {error!r}") from None
    located = _located(_dict(metadata, "storage_data"))
    entries = {
        _is(str, name): _entry(name, kind, located)
        for name, kind in _dict(metadata, "state_dict_metadata").items()
    }
    return DcpIndex(entries, _places(metadata))


class _Record:
    """Stands in for an instance of one of the index's classes; what it was given is data."""

    def __init__(self, *_: object) -> None:
        self.state: Any = {}

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Knows the classes of an index and no others."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._standing_in: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What ``module`` and ``name`` stand for here. A pickle may write to what it gets, so
        nothing it gets outlives this reading."""
        where = module, name
        if where not in self._standing_in:
            self._standing_in[where] = self._stand_in(module, name)
        return self._standing_in[where]

    def _stand_in(self, module: str, name: str) -> Any:
        if (module, name) in _RECORDS:
            return type(name, (_Record,), {})
        if (module, name) in _CALLS:
            return lambda *_: None
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        builtins: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch", "Size"): lambda *sizes: tuple(*sizes),
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("builtins", "frozenset"): frozenset,
        }
        if (module, name) in builtins:
            return builtins[module, name]
        raise CheckpointDamaged(
            f".metadata asks for {module}.{name}, which no index of torch.distributed.checkpoint "
            "needs; it was not loaded"
        )


def _is(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise CheckpointDamaged(f".metadata has {value!r:.80} where a {kind.__name__} belongs")
    return value


def _field(record: Any, name: str) -> Any:
    state = getattr(record, "state", None) if isinstance(record, _Record) else None
    if not isinstance(state, dict):
        raise CheckpointDamaged(
            f".metadata has {type(record).__name__} where {name!r} is looked for"
        )
    return state.get(name)


def _dict(record: Any, name: str) -> dict[Any, Any]:
    value: dict[Any, Any] = _is(dict, _field(record, name))
    return value


def _extent(value: Any) -> Extent:
    sizes: Extent = _is(tuple, value)
    if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
        raise CheckpointDamaged(f".metadata has {value!r:.80} where sizes belong")
    return sizes


def _located(storage: dict[Any, Any]) -> dict[tuple[str, Extent | None], tuple[str, int, int]]:
    """Where each piece is: by its entry's name and its offsets."""
    found = {}
    for index, info in storage.items():
        offset = _field(index, "offset")
        key = _is(str, _field(index, "fqn")), None if offset is None else _extent(offset)
        if _field(info, "transform_descriptors"):
            raise CheckpointDamaged(f"{key[0]!r} is compressed or encrypted; save it without that")
        at, length = _extent((_field(info, "offset"), _field(info, "length")))
        found[key] = _is(str, _field(info, "relative_path")), at, length
    return found


def _entry(
    name: str, kind: Any, located: dict[tuple[str, Extent | None], tuple[str, int, int]]
) -> Entry:
    if type(kind).__name__ == "BytesStorageMetadata":
        return Entry(None, (), (_piece(name, None, (), located),))
    properties = _field(kind, "properties")
    state = properties.state if isinstance(properties, _Record) else None
    dtype = state[0] if isinstance(state, tuple) and state else None
    size = _extent(_field(kind, "size"))
    chunks = [
        (_extent(_field(chunk, "offsets")), _extent(_field(chunk, "sizes")))
        for chunk in _is(list, _field(kind, "chunks"))
    ]
    for offsets, sizes in chunks:
        if not _inside(offsets, sizes, size):
            raise CheckpointDamaged(f"a piece of {name!r} lies outside it")
    pieces = tuple(_piece(name, offsets, sizes, located) for offsets, sizes in chunks)
    return Entry(_is(torch.dtype, dtype), size, pieces)


def _inside(offsets: Extent, sizes: Extent, whole: Extent) -> bool:
    return len(offsets) == len(sizes) == len(whole) and all(
        offset + size <= limit for offset, size, limit in zip(offsets, sizes, whole, strict=True)
    )


def _piece(
    name: str,
    offsets: Extent | None,
    sizes: Extent,
    located: dict[tuple[str, Extent | None], tuple[str, int, int]],
) -> Piece:
    if (name, offsets) not in located:
        raise CheckpointDamaged(f".metadata does not say where {name!r} is")
    return Piece(offsets or (), sizes, *located[name, offsets])


def _places(metadata: Any) -> dict[str, tuple[str | int, ...]]:
    planned = _field(metadata, "planner_data")
    if not isinstance(planned, dict):
        return {}
    places = {}
    for name, place in planned.items():
        steps = _is(tuple, place)
        if not steps or not all(type(step) in (str, int) for step in steps):
            raise CheckpointDamaged(f".metadata has no place in {place!r:.80}")
        places[_is(str, name)] = steps
    return places
