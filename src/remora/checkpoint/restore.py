"""Restoring: the newest whole checkpoint, verified, straight into the given tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from remora.checkpoint.layout.slot_file import Stored
from remora.checkpoint.reading import Found, PartReader, Reader, checkpoints, whole
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import unflatten
from remora.checkpoint.storage.contract import Storage
from remora.core.errors import CheckpointUnusable

Say = Callable[[str], None]


def restore(
    storage: Storage, parts: Parts, step: int | None = None, *, strict: bool = True, say: Say
) -> int | None:
    """Put the newest whole checkpoint, or that of ``step``, into ``parts``.

    Returns:
        Its step; None where there is no checkpoint at all.

    Raises:
        CheckpointUnusable: there are checkpoints, but none whole, or none of that step. Tensors
            may then hold bytes of a damaged one.
        StateMismatch: it is not of these parts; nothing has been changed.
    """
    found = checkpoints(storage)
    if not found:
        return None
    wanted = found if step is None else [each for each in found if each.entry.step == step]
    if not wanted:
        steps = ", ".join(str(each.entry.step) for each in found if each.kind != "given up")
        raise CheckpointUnusable(f"no checkpoint of step {step}; there are those of {steps}")

    def damaged(each: Found, error: Exception) -> None:
        if each.kind != "given up":  # its slot is being written over: no loss
            say(f"step {each.entry.step:,} is passed over: {error}")

    for reader in whole(storage, wanted, damaged):
        try:
            _apply(reader, parts, strict, say)
        except (CheckpointUnusable, OSError) as error:
            damaged(reader.found, error)
            continue
        return reader.found.entry.step
    raise CheckpointUnusable(
        f"none of {len(wanted)} checkpoints is whole; see `remora checkpoint verify`"
    )


def _apply(reader: Reader, parts: Parts, strict: bool, say: Say) -> None:
    part: PartReader = reader.parts[0]
    document = part.document()
    described = {each.name: each for each in part.layout.tensors}
    in_place = parts.targets(document, lambda name: _like(described[name]), strict=strict)
    tensors = {
        each.name: in_place[each.name] if each.name in in_place else _room_for(each)
        for each in part.layout.tensors
    }
    part.read_into(tensors)
    for line in parts.apply(unflatten(document, tensors.__getitem__), strict=strict):
        say(line)


def _like(stored: Stored) -> torch.Tensor:
    """A tensor of that dtype and shape without memory."""
    return torch.empty(stored.shape, dtype=stored.dtype, device="meta")


def _room_for(stored: Stored) -> torch.Tensor:
    return torch.empty(stored.shape, dtype=stored.dtype)
