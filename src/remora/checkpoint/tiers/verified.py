"""A committed checkpoint's files as bytes to send: nothing that does not check is given out."""

from __future__ import annotations

from collections.abc import Iterator

from remora.checkpoint.reading import Found, PartReader, Reader
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.tiers.contract import PIECE_BYTES
from remora.core.errors import CheckpointDamaged


def opened(storage: Storage, found: Found) -> Reader:
    """A reader of ``found``, whose head is the one that was committed.

    Raises:
        CheckpointDamaged: it is not, or cannot be read.
    """
    try:
        return Reader(storage, found)
    except OSError as error:
        raise CheckpointDamaged(f"it cannot be read: {error.strerror or error}") from error


def pieces(part: PartReader) -> Iterator[memoryview]:
    """All bytes of the file, in order, each piece valid until the next. What no hash covers is
    zeros, whatever the disk says.

    Raises:
        CheckpointDamaged: a chunk is not as committed, or cannot be read.
    """
    layout = part.layout
    yield from _cut(memoryview(part.head))
    buffer = aligned(layout.chunk_bytes)
    for index in range(layout.chunks):
        try:
            chunk = part.read_chunk(index, buffer)
        except OSError as error:
            why = error.strerror or error
            raise CheckpointDamaged(f"{part.name} cannot be read: {why}") from error
        yield from _cut(chunk)
    zeros = memoryview(bytes(min(PIECE_BYTES, layout.size - layout.hashed_end)))
    for begin in range(layout.hashed_end, layout.size, max(len(zeros), 1)):
        yield zeros[: layout.size - begin]


def _cut(data: memoryview) -> Iterator[memoryview]:
    for begin in range(0, len(data), PIECE_BYTES):
        yield data[begin : begin + PIECE_BYTES]
