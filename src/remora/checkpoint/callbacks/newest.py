"""What the newest whole checkpoint says, before there is anything to restore it into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remora.checkpoint.reading import PartReader, checkpoints, whole
from remora.checkpoint.state.tree import unflatten
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.core.errors import CheckpointDamaged


@dataclass(frozen=True)
class Newest:
    """A checkpoint every byte of which has been read and found whole."""

    step: int
    state: dict[str, Any]
    """As captured; its tensors have a dtype and a shape and no values."""


def newest(directory: Path, storage: Storage | None = None) -> Newest | None:
    """The checkpoint that restoring will take; None where there is none whole.

    Reads all of it, since what restoring falls back to must not be another one than this.
    """
    place = storage or LocalStorage(directory, create=False)
    for reader in whole(place, checkpoints(place), lambda found, error: None):
        try:
            reader.verify()
            state = _outline(reader.parts[0])
        except (CheckpointDamaged, OSError):
            continue
        return Newest(reader.found.entry.step, state)
    return None


def _outline(part: PartReader) -> dict[str, Any]:
    described = {
        each.name: torch.empty(each.shape, dtype=each.dtype, device="meta")
        for each in part.layout.tensors
    }
    return unflatten(part.document(), described.__getitem__)
