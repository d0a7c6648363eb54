"""How many bytes the values of a run take, as they come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch


class Live:
    """Storages that are held, each by how many slots; what shares memory counts once.

    Args:
        free: tensors whose memory is not counted, whoever holds it.
    """

    def __init__(self, free: Iterable[torch.Tensor] = ()) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._holders: dict[int, int] = {}
        self._held_by: dict[int, int] = {}
        """The storage that each slot holds."""
        self._free = {tensor.untyped_storage()._cdata for tensor in free}
        self.bytes_held = 0

    def add(self, made: Mapping[int, Any]) -> int:
        """Values by slot, just made; returns how many bytes are held now."""
        for slot, value in made.items():
            if isinstance(value, torch.Tensor):
                self._hold(slot, value.untyped_storage())
        return self.bytes_held

    def drop(self, slots: Iterable[int]) -> None:
        """Nothing is in ``slots`` any more."""
        for slot in slots:
            key = self._held_by.pop(slot, None)
            if key is None:
                continue
            self._holders[key] -= 1
            if not self._holders[key]:
                self.bytes_held -= self._storages.pop(key).nbytes()
                del self._holders[key]

    def _hold(self, slot: int, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._free:
            return
        if key not in self._storages:
            self._storages[key] = storage  # held, so that its address is not used again
            self._holders[key] = 0
            self.bytes_held += storage.nbytes()
        self._held_by[slot] = key
        self._holders[key] += 1
