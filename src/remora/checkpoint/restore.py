"""Restoring: the newest whole checkpoint, verified, straight into the given tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from remora.checkpoint.layout.slot_file import Stored
from remora.checkpoint.reading import Found, PartReader, Reader, checkpoints
from remora.checkpoint.sharded.coordinator import Coordinator
from remora.checkpoint.sharded.shards import distributed, joined
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import unflatten
from remora.checkpoint.storage.contract import Storage
from remora.core.errors import CheckpointUnusable, StateMismatch

Say = Callable[[str], None]


def restore(
    storage: Storage,
    parts: Parts,
    step: int | None = None,
    *,
    strict: bool = True,
    say: Say,
    ranks: Coordinator | None = None,
) -> int | None:
    """Put the newest whole checkpoint, or that of ``step``, into ``parts``.

    Args:
        say: told, in a line, of what is passed over and what does not fit.
        ranks: where several ranks restore together; all of them then restore the same one.

    Returns:
        Its step; None where there is no checkpoint at all.

    Raises:
        CheckpointUnusable: there are checkpoints, but none whole, or none of that step. Tensors
            may then hold bytes of a damaged one.
        StateMismatch: it is not of these parts; nothing has been changed.
    """
    found = _agreed(checkpoints(storage), ranks)
    if not found:
        return None
    wanted = found if step is None else [each for each in found if each.entry.step == step]
    if not wanted:
        steps = ", ".join(str(each.entry.step) for each in found if each.kind != "given up")
        raise CheckpointUnusable(f"no checkpoint of step {step}; there are those of {steps}")
    for each in wanted:
        damage = _attempt(storage, each, parts, strict, say, ranks)
        if damage is None:
            return each.entry.step
        if each.kind != "given up":  # one that is being written over is no loss
            say(f"step {each.entry.step:,} is passed over: {damage}")
    raise CheckpointUnusable(
        f"none of {len(wanted)} checkpoints is whole; see `remora checkpoint verify`"
    )


def _agreed(found: list[Found], ranks: Coordinator | None) -> list[Found]:
    """``found`` as rank 0 found it."""
    if ranks is None:
        return found
    order = ranks.announce([each.entry.sequence for each in found])
    mine = {each.entry.sequence: each for each in found}
    if not set(order) <= set(mine):
        raise CheckpointUnusable(
            f"rank {ranks.rank} does not see the checkpoints that rank 0 sees; "
            "give all ranks one folder on a file system they share"
        )
    return [mine[sequence] for sequence in order]


def _attempt(
    storage: Storage,
    found: Found,
    parts: Parts,
    strict: bool,
    say: Say,
    ranks: Coordinator | None,
) -> str | None:
    """Restore ``found``; what is damaged, if it could not be."""
    damage = misfit = None
    try:
        with Reader(storage, found) as reader:
            _apply(reader, parts, strict, say, ranks)
    except StateMismatch as error:
        misfit = str(error)
    except (CheckpointUnusable, OSError) as error:
        damage = str(error)
    if ranks is not None:
        damage, misfit = ranks.first(damage), ranks.first(misfit)
    if misfit is not None:
        raise StateMismatch(misfit)
    return damage


def _apply(reader: Reader, parts: Parts, strict: bool, say: Say, ranks: Coordinator | None) -> None:
    if ranks is None and len(reader.parts) == 1 and not parts.distributed:
        state = _straight_into(parts, reader.parts[0], strict)
    else:
        state = _put_together(parts, reader, ranks.rank if ranks is not None else 0)
    for line in parts.apply(state, strict=strict):
        say(line)


def _straight_into(parts: Parts, part: PartReader, strict: bool) -> dict[str, Any]:
    """The state, read into the live tensors themselves where that is possible."""
    document = part.document()
    described = {each.name: each for each in part.layout.tensors}
    in_place = parts.targets(document, lambda name: _like(described[name]), strict=strict)
    tensors = {
        each.name: in_place[each.name] if each.name in in_place else _room_for(each)
        for each in part.layout.tensors
    }
    part.read_into(tensors)
    return unflatten(document, tensors.__getitem__)


def _put_together(parts: Parts, reader: Reader, rank: int) -> dict[str, Any]:
    """The state of several parts, as this rank is to have it."""
    whole = joined([load_part(part) for part in reader.parts], rank)
    live = parts.capture()
    return {
        name: distributed(state, live.get(name), parts.parameters(name))
        for name, state in whole.items()
    }


def load_part(part: PartReader) -> dict[str, Any]:
    """The state in one part, in memory of its own."""
    tensors = {each.name: _room_for(each) for each in part.layout.tensors}
    part.read_into(tensors)
    return unflatten(part.document(), tensors.__getitem__)


def _like(stored: Stored) -> torch.Tensor:
    """A tensor of that dtype and shape without memory."""
    return torch.empty(stored.shape, dtype=stored.dtype, device="meta")


def _room_for(stored: Stored) -> torch.Tensor:
    return torch.empty(stored.shape, dtype=stored.dtype)
