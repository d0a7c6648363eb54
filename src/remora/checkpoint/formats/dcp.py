"""Checkpoints of torch.distributed.checkpoint: written by it, read without unpickling anything."""

from __future__ import annotations

import io
import math
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.state_dict_saver import save

from remora.checkpoint.formats.conventions import as_parts
from remora.checkpoint.formats.dcp_metadata import DcpIndex, Entry, Piece, read_index
from remora.checkpoint.state.stored import as_stored
from remora.checkpoint.state.tree import flatten, unflatten
from remora.core.errors import BadValue, CheckpointDamaged, StateUnsupported

_DOCUMENT = "__state__"
"""The entry that has the nesting and the plain values, for the way back."""
_ONLY_OURS = f"{_DOCUMENT}."
"""Before the names of tensors that the library would not store under theirs."""


def export_dcp(state: dict[str, Any], directory: Path) -> None:
    """Write ``state`` as a checkpoint of torch.distributed.checkpoint, by one process.

    Its names are the library's own (``model.layers.0.weight``, ``optimizer.state.0.exp_avg``),
    so that ``dcp.load`` into ``{"model": model.state_dict(), …}`` finds them; tied tensors are
    there under each of theirs. The library turns every key into text: :func:`import_dcp` gives
    the state as it was, from an entry that ``dcp.load`` does not look at.

    Raises:
        StateUnsupported: ``state`` holds what no checkpoint can, or two things of one name.
        OSError: the folder cannot be written.
    """
    flat = flatten(state)
    nested = {name: _for_others(value) for name, value in state.items()}
    try:
        theirs = _tensor_names(nested)
    except ValueError as error:
        raise StateUnsupported(f"torch.distributed.checkpoint cannot hold it: {error}") from None
    extra = {
        f"{_ONLY_OURS}{name}": tensor.contiguous()
        for name, tensor in flat.tensors.items()
        if name not in theirs
    }
    extra[_DOCUMENT] = torch.frombuffer(bytearray(flat.document), dtype=torch.uint8)
    directory.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # that there is one process is what was asked for
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        save({**nested, **extra}, checkpoint_id=directory, no_dist=True)


def _for_others(value: Any) -> Any:
    """``value`` with tensors for arrays and numbers for numpy's, which the library pickles."""
    if isinstance(value, dict):
        return {key: _for_others(item) for key, item in value.items()}
    if type(value) is list:
        return [_for_others(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.copy())
        except TypeError:
            return value.tolist()
    return value


def _tensor_names(nested: dict[str, Any]) -> set[str]:
    """The names of the entries that the library will store as tensors."""
    flattened, _ = flatten_state_dict(nested)
    return {name for name, value in flattened.items() if isinstance(value, torch.Tensor)}


def import_dcp(directory: Path) -> dict[str, Any]:
    """The state in ``directory``, on the CPU, by part; sharded tensors are put together.

    The index is read as data (:mod:`~remora.checkpoint.formats.dcp_metadata`), tensors and
    values with ``weights_only=True``. Where the library made text of an optimizer's numbers,
    they are numbers again.

    Raises:
        BadValue: there is no checkpoint of torch.distributed.checkpoint.
        CheckpointDamaged: it is damaged, or its index asks for what an index never needs.
        StateUnsupported: a value in it takes running code to read.
    """
    metadata = directory / ".metadata"
    if not metadata.is_file():
        raise BadValue(
            f"there is no {str(metadata)!r}; give a folder that torch.distributed.checkpoint wrote"
        )
    reader = _Reader(directory, read_index(metadata.read_bytes()))
    if _DOCUMENT in reader.index.entries:
        return unflatten(reader.document(), reader.stored)
    return as_parts(reader.nested())


class _Reader:
    """Reads the entries of one folder."""

    def __init__(self, directory: Path, index: DcpIndex) -> None:
        self.index = index
        self._directory = directory

    def document(self) -> bytes:
        return self.tensor(_DOCUMENT).numpy().tobytes()

    def stored(self, name: str) -> torch.Tensor:
        """A tensor by the name that a document of ours has for it, in its stored form."""
        ours = f"{_ONLY_OURS}{name}"
        return as_stored(self.tensor(ours if ours in self.index.entries else name))[0]

    def nested(self) -> dict[str, Any]:
        """Everything at its place; by name, where the index knows of no places."""
        root: dict[Any, Any] = {}
        for name, entry in self.index.entries.items():
            *way, last = self.index.places.get(name, tuple(name.split(".", 1)))
            at = root
            for step in way:
                at = at.setdefault(step, {})
                if not isinstance(at, dict):
                    raise CheckpointDamaged(f"{name!r} lies below another entry")
            at[last] = self.tensor(name) if entry.dtype else self._object(name, entry)
        return {str(name): _with_lists(value) for name, value in root.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """The whole of a tensor, from its pieces.

        Raises:
            KeyError: there is none of that name.
        """
        entry = self.index.entries[name]
        pieces = [(piece, self._piece(name, entry, piece)) for piece in entry.pieces]
        if len(pieces) == 1 and pieces[0][0].sizes == entry.size:
            return pieces[0][1]
        if sum(math.prod(piece.sizes) for piece, _ in pieces) != math.prod(entry.size):
            raise CheckpointDamaged(f"the pieces of {name!r} are not the whole of it")
        whole = torch.empty(entry.size, dtype=entry.dtype)
        for piece, part in pieces:
            target = whole
            for dimension, (offset, size) in enumerate(
                zip(piece.offsets, piece.sizes, strict=True)
            ):
                target = target.narrow(dimension, offset, size)
            target.copy_(part)
        return whole

    def _piece(self, name: str, entry: Entry, piece: Piece) -> torch.Tensor:
        """A piece, which has all its elements in the file: a view could claim any shape."""
        tensor = self._load(name, piece)
        if (
            not isinstance(tensor, torch.Tensor)
            or (tensor.dtype, tensor.shape) != (entry.dtype, piece.sizes)
            or tensor.numel() * tensor.element_size() > piece.length
        ):
            raise CheckpointDamaged(f"{name!r} in {piece.file} is not what the index says")
        return tensor

    def _object(self, name: str, entry: Entry) -> Any:
        return self._load(name, entry.pieces[0])

    def _load(self, name: str, piece: Piece) -> Any:
        data = io.BytesIO(self._bytes(name, piece))
        try:
            return torch.load(data, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            reason = " ".join(str(error).split())
            raise StateUnsupported(
                f"{name!r} cannot be read without running code that is in it ({reason[:300]})"
            ) from None
        except Exception as error:  # a damaged archive may raise anything
            raise CheckpointDamaged(f"{name!r} in {piece.file}: {error!r:.300}") from None

    def _bytes(self, name: str, piece: Piece) -> bytes:
        """Of a file in the folder itself, and no more than it has."""
        file = self._directory / piece.file
        if Path(piece.file).name != piece.file or not file.is_file():
            raise CheckpointDamaged(
                f"{name!r} is in {piece.file!r}, which is no file of the folder"
            )
        if piece.offset + piece.length > file.stat().st_size:
            raise CheckpointDamaged(f"{name!r} lies beyond the end of {piece.file}")
        with file.open("rb") as opened:
            opened.seek(piece.offset, os.SEEK_SET)
            return opened.read(piece.length)


def _with_lists(value: Any) -> Any:
    """Nested dicts with lists for those that are keyed by ints: the places said which."""
    if type(value) is not dict:
        return value
    items = {key: _with_lists(item) for key, item in value.items()}
    if not items or not all(type(key) is int for key in items):
        return items
    if sorted(items) != list(range(len(items))):
        raise CheckpointDamaged(f"a list has items at {sorted(items)[:5]} only")
    return [items[index] for index in range(len(items))]
