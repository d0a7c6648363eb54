"""Which bytes of which tensors make up each chunk."""

from __future__ import annotations

from typing import NamedTuple

from remora.checkpoint.layout.slot_file import SlotLayout


class Segment(NamedTuple):
    """A run of bytes that one chunk holds of one tensor."""

    source: int
    """Which tensor, in the order of the file; the document comes after the last."""
    source_offset: int
    chunk_offset: int
    length: int


def segments(layout: SlotLayout) -> list[list[Segment]]:
    """The segments of every chunk, in order. What no segment covers is padding: zeros."""
    chunks: list[list[Segment]] = [[] for _ in range(layout.chunks)]
    for source, stored in enumerate((*layout.tensors, layout.document)):
        begin = stored.begin
        while begin < stored.end:
            index = (begin - layout.body) // layout.chunk_bytes
            chunk_begin, chunk_end = layout.chunk(index)
            end = min(stored.end, chunk_end)
            piece = Segment(source, begin - stored.begin, begin - chunk_begin, end - begin)
            chunks[index].append(piece)
            begin = end
    return chunks
