"""How many bytes the values of a run take, as they come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch


class Live:
    """Storages that are held, each by how many slots; what shares memory counts once."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._holders: dict[int, set[int]] = {}
        self._bytes = 0

    def add(self, made: Mapping[int, Any]) -> int:
        """Values by slot, just made; returns how many bytes are held now."""
        for slot, value in made.items():
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self._storages:
                    self._storages[key] = storage  # held, so that its address is not used again
                    self._bytes += storage.nbytes()
                self._holders.setdefault(key, set()).add(slot)
        return self._bytes

    def drop(self, slots: Iterable[int]) -> None:
        """Nothing is in ``slots`` any more."""
        gone = set(slots)
        for key in [key for key, holders in self._holders.items() if holders & gone]:
            self._holders[key] -= gone
            if not self._holders[key]:
                self._bytes -= self._storages.pop(key).nbytes()
                del self._holders[key]
