"""A folder with checkpoints in it, written without a training job."""

from __future__ import annotations

import torch
import xxhash

from remora.checkpoint.folder import Folder
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.planned import Plans
from remora.checkpoint.snapshot import begin_copy
from remora.checkpoint.staging import Arena
from remora.checkpoint.state.tree import flatten
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.memory import MemoryStorage

CHUNK = 8192


def open_folder(storage: Storage | None = None, *, spare: int = 1, keep: int = 2) -> Folder:
    return Folder(storage or MemoryStorage(), keep=keep, in_flight=2, spare=spare)


def state(step: int, elements: int = 5000) -> dict[str, object]:
    """One whose every byte depends on ``step``."""
    generator = torch.Generator().manual_seed(step)
    return {"weight": torch.rand(elements, generator=generator), "done": step}


def commit(folder: Folder, step: int, elements: int = 5000) -> Entry:
    """Save :func:`state` of ``step``."""
    planned = Plans(CHUNK).of(flatten(state(step, elements)), ())
    layout = planned.layout
    folder.prepare(layout.size)
    place = folder.begin()
    buffer = Arena(1, CHUNK).take()
    if place is None or buffer is None:
        raise AssertionError("there is no slot to write to")
    copy = begin_copy(planned.tensors, planned.document)
    hashes = []
    for index, segments in enumerate(planned.segments):
        begin, end = layout.chunk(index)
        copy.fill(buffer, segments)
        hashes.append(xxhash.xxh3_64_intdigest(buffer.view[: end - begin]))
        place.file.pwrite(buffer.view[: end - begin], begin)
    folder.commit(place, step, layout, hashes)
    return folder.live[0]
