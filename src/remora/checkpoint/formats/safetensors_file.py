"""Plain safetensors: one file with the whole state, and models as others publish them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import torch
from safetensors.torch import save_file

from remora.checkpoint.formats.conventions import as_parts
from remora.checkpoint.state.tree import flatten, unflatten
from remora.core.errors import BadValue, CheckpointDamaged
from remora.core.files import sync_directory

DOCUMENT_KEY = "remora.state"
"""Under which a file's metadata has the nesting and the plain values."""
_DOCUMENT_TENSOR = "__state__"
"""Where a slot has it."""


def export_safetensors(state: dict[str, Any], file: Path) -> None:
    """Write ``state`` to ``file``: whole or not there at all, and durable.

    Tensors by their names (``model.layers.0.weight``), shared ones once; a module's state alone,
    as ``state["model"]``, gives its names as others expect them. The rest of the state is in the
    file's metadata, so that :func:`import_safetensors` gives all of it.

    Raises:
        StateUnsupported: ``state`` holds what no checkpoint can.
        OSError: the folder is missing, full or unwritable; ``file`` is then as it was.
    """
    flat = flatten(state)
    metadata = {"format": "pt", DOCUMENT_KEY: flat.document.decode()}
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        save_file({name: _alone(tensor) for name, tensor in flat.tensors.items()}, aside, metadata)
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(file)
    except safetensors.SafetensorError as error:
        raise OSError(f"{file}: {error}") from None
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(file.parent)


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` contiguous and with a storage of its own, which the library insists on."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole and tensor.is_contiguous() else tensor.clone(
        memory_format=torch.contiguous_format
    )  # fmt: skip


def import_safetensors(path: Path) -> dict[str, Any]:
    """The state in ``path``, on the CPU, by part.

    ``path`` is a file, a slot of a checkpoint, or the ``….index.json`` of a model in several
    files. Without a document of ours the tensors are a model's.

    Raises:
        BadValue: there is no such file.
        CheckpointDamaged: it is none of these, or damaged.
    """
    if not path.is_file():
        raise BadValue(f"there is no file {str(path)!r}; give a .safetensors or its .index.json")
    if path.suffix == ".json":
        return as_parts(_read_index(path))
    tensors, document = _read(path)
    if document is None:
        return as_parts(tensors)
    return unflatten(document, tensors.__getitem__)


def _read(file: Path) -> tuple[dict[str, torch.Tensor], bytes | None]:
    """All tensors but a slot's own, and the document if there is one."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (safetensors.SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointDamaged(f"{file.name} is no whole safetensors file: {reason}") from None
    document = metadata[DOCUMENT_KEY].encode() if DOCUMENT_KEY in metadata else None
    if (stored := tensors.get(_DOCUMENT_TENSOR)) is not None and stored.dtype is torch.uint8:
        document = stored.numpy().tobytes()
    return {n: tensor for n, tensor in tensors.items() if not n.startswith("__")}, document


class _Index(msgspec.Struct):
    """What is read of an index: which file has which tensor."""

    weight_map: dict[str, str]


def _read_index(path: Path) -> dict[Any, Any]:
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointDamaged(f"{path.name} is no index of safetensors files: {error}") from None
    tensors: dict[Any, Any] = {}
    for name in sorted(set(index.weight_map.values())):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise CheckpointDamaged(f"{path.name} names a file {name!r} that is not beside it")
        tensors.update(_read(path.parent / name)[0])
    if missing := index.weight_map.keys() - tensors.keys():
        raise CheckpointDamaged(f"{path.name} lists {min(missing)!r}, which its file does not have")
    return {name: tensors[name] for name in index.weight_map}
