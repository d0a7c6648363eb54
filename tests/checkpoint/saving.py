"""Small checkpoints, and a save taken through a folder by hand, one call at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xxhash

from remora.checkpoint.folder import Folder, Place
from remora.checkpoint.layout.chunks import segments
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout, plan
from remora.checkpoint.reading import PartReader, Reader
from remora.checkpoint.snapshot import HostCopy
from remora.checkpoint.staging import Arena
from remora.checkpoint.storage.aligned import aligned
from remora.core.tensors import tensor_bytes

CHUNK = 4096
DOCUMENT_BYTES = 256


RANK_STEP = 10_000
"""What of step s a rank r saves is the state of step ``s + r * RANK_STEP``."""


def state(step: int, scale: int = 1) -> dict[str, torch.Tensor]:
    """Tensors that no other step has, about ``scale`` times 9 KiB of them."""
    draw = np.random.default_rng(step)
    return {
        "weight": torch.from_numpy(draw.random((scale, 1000), dtype=np.float64)),
        "bias": torch.from_numpy(draw.integers(0, 255, 700, dtype=np.uint8)),
        "step": torch.tensor(step),
    }


def document(step: int) -> bytes:
    return b'{"step":%d}' % step


def layout_of(tensors: Mapping[str, torch.Tensor], size: int = 0) -> SlotLayout:
    return plan(tensors, DOCUMENT_BYTES, chunk_bytes=CHUNK, size=size)


@dataclass
class Saving:
    """A save on its way."""

    place: Place
    step: int
    layout: SlotLayout
    chunks: list[bytes]
    hashes: list[int]

    def write(self, index: int) -> None:
        begin, _ = self.layout.chunk(index)
        data = aligned(len(self.chunks[index]))
        data[:] = self.chunks[index]
        self.place.file.pwrite(data, begin)

    def write_all(self) -> None:
        for index in range(self.layout.chunks):
            self.write(index)

    def commit(self, folder: Folder) -> bool:
        return folder.commit(self.place, self.step, self.layout, self.hashes)


def begin(folder: Folder, step: int, *, scale: int = 1, size: int = 0) -> Saving:
    """Take a place for ``state(step, scale)``; nothing of it is written yet."""
    place = folder.begin()
    assert place is not None, "as many are in flight as may be"
    layout, chunks = rendered(step, scale, size)
    return Saving(place, step, layout, chunks, hashes_of(chunks))


def save(folder: Folder, step: int, *, scale: int = 1, size: int = 0) -> bool:
    """All of it, at once."""
    saving = begin(folder, step, scale=scale, size=size)
    saving.write_all()
    return saving.commit(folder)


def rendered(step: int, scale: int = 1, size: int = 0) -> tuple[SlotLayout, list[bytes]]:
    """The layout, and the bytes of every chunk, by the same way that the writer's take."""
    tensors = state(step, scale)
    layout = layout_of(tensors, size)
    in_order = [tensors[stored.name] for stored in layout.tensors]
    copy = HostCopy(in_order, document(step).ljust(layout.document.nbytes))
    buffer = Arena(1, CHUNK).take()
    assert buffer is not None
    chunks = []
    for index, pieces in enumerate(segments(layout)):
        copy.fill(buffer, pieces)
        first, last = layout.chunk(index)
        chunks.append(ctypes.string_at(buffer.address, last - first))
    return layout, chunks


def hashes_of(chunks: list[bytes]) -> list[int]:
    return [xxhash.xxh3_64_intdigest(chunk) for chunk in chunks]


def differs(reader: Reader, step: int, scale: int = 1) -> str | None:
    """What ``reader`` holds that was not saved under ``step``; None if all is as saved."""
    wrong = (
        _part_differs(part, step + rank * RANK_STEP, scale)
        for rank, part in enumerate(reader.parts)
    )
    return next(filter(None, wrong), None)


def _part_differs(part: PartReader, step: int, scale: int) -> str | None:
    expected = state(step, scale)
    found = {each.name: torch.empty(each.shape, dtype=each.dtype) for each in part.layout.tensors}
    if set(found) != set(expected):
        return f"tensors {sorted(found)}"
    part.read_into(found)
    for name, tensor in expected.items():
        if bytes(tensor_bytes(found[name])) != bytes(tensor_bytes(tensor)):
            return f"tensor {name}"
    return None if part.document() == document(step) else "the document"


def committed(folder: Folder, saving: Saving) -> Entry:
    """The entry under which ``saving`` is listed."""
    return next(each for each in folder.live if each.sequence == saving.place.sequence)
