"""From a captured state to what is copied where; worked out once for as long as shapes stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from remora.checkpoint.layout.chunks import Segment, segments
from remora.checkpoint.layout.slot_file import SlotLayout, plan
from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.tree import Flat

_DOCUMENT_ROOM = 64 * 1024
_SIZE_STEP = 2**20
"""Slot files are whole mebibytes, so that a state a little larger fits them still."""


@dataclass(frozen=True)
class Planned:
    """One state, ready to be copied."""

    layout: SlotLayout
    segments: list[list[Segment]]
    tensors: list[torch.Tensor]
    """In the order of the file; those that a forward may change are clones."""
    document: bytes
    new: bool
    """The layout is not the one of the state before."""

    @property
    def on_cuda(self) -> bool:
        """Whether any of it is on a CUDA device."""
        return any(tensor.is_cuda for tensor in self.tensors)


_Shape = tuple[str, torch.dtype, torch.Size]


class Plans:
    """Keeps the layout of the last state."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._shapes: list[_Shape] = []
        self._known: tuple[KnownDict, ...] = ()
        self._fresh: list[_Shape] = []
        self._layout: SlotLayout | None = None
        self._segments: list[list[Segment]] = []
        self._order: dict[str, int] = {}

    def of(self, flat: Flat, volatile: Collection[str]) -> Planned:
        """``flat`` as it goes to disk. Tensors named in ``volatile`` are cloned now."""
        layout, new = self._layout_for(flat)
        tensors = [flat.tensors[name] for name in self._order]
        for name in volatile:
            tensors[self._order[name]] = flat.tensors[name].clone()
        document = flat.document.ljust(layout.document.nbytes)
        return Planned(layout, self._segments, tensors, document, new)

    def _layout_for(self, flat: Flat) -> tuple[SlotLayout, bool]:
        layout = self._layout
        fits = layout is not None and len(flat.document) <= layout.document.nbytes
        if self._are_those_of(flat) and fits and layout is not None:
            return layout, False
        room = _round_up(2 * len(flat.document) + _DOCUMENT_ROOM, 4096)
        small = plan(flat.tensors, room, chunk_bytes=self._chunk_bytes)
        size = _round_up(small.size, _SIZE_STEP)
        self._layout = plan(flat.tensors, room, chunk_bytes=self._chunk_bytes, size=size)
        self._segments = segments(self._layout)
        self._order = {each.name: index for index, each in enumerate(self._layout.tensors)}
        return self._layout, True

    def _are_those_of(self, flat: Flat) -> bool:
        """Whether names and shapes are those of last time; from now on, those of ``flat`` are."""
        fresh = _shapes(flat.fresh)
        if self._known and flat.known == self._known and fresh == self._fresh:
            return True
        before, self._shapes = self._shapes, _shapes(flat.tensors)
        self._known, self._fresh = flat.known, fresh
        return self._shapes == before


def _shapes(tensors: Mapping[str, torch.Tensor]) -> list[_Shape]:
    return [(name, each.dtype, each.shape) for name, each in tensors.items()]


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step
