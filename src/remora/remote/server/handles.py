"""What clients keep on the server, tensor by tensor. Each is its connection's, and ends with it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch

from remora.core.errors import Full, Refused
from remora.core.units import format_bytes
from remora.remote.server.weights import WeightStore

LEAST_BYTES = 512
"""What the smallest tensor is reckoned at: a table of empty ones takes memory too."""


def charged(size: int) -> int:
    """What a tensor of ``size`` bytes is reckoned at."""
    return max(size, LEAST_BYTES)


class Room:
    """The memory that all handles of a server may take. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.held_bytes = limit_bytes, 0
        self.handles = 0
        self._guard = threading.Lock()

    def take(self, size: int) -> None:
        """Take ``size`` bytes of it.

        Raises:
            Full: there is not so much left.
        """
        with self._guard:
            if self.held_bytes + size > self.limit_bytes:
                raise Full(
                    f"no room for {format_bytes(size)} more: tensors kept on the server may take "
                    f"{format_bytes(self.limit_bytes)}, and take {format_bytes(self.held_bytes)}; "
                    "drop some, or start the server with more"
                )
            self.held_bytes += size

    def give(self, size: int, handles: int = 0) -> None:
        """Give ``size`` bytes back; so many handles fewer."""
        with self._guard:
            self.held_bytes -= size
            self.handles -= handles

    def count(self, handles: int) -> None:
        """So many handles more."""
        with self._guard:
            self.handles += handles


class Held:
    """One memory: a tensor that reaches over all of it, or why there is none."""

    __slots__ = ("bytes", "digest", "failed", "size", "tensor")

    def __init__(self, tensor: torch.Tensor | None, size: int, digest: str | None = None) -> None:
        self.tensor, self.size, self.digest = tensor, size, digest
        self.bytes = 0 if digest is not None else charged(size)
        """What it is reckoned at: nothing while it is a weight that others may hold as well."""
        self.failed = ""


class Handles:
    """One connection's memories, by the numbers that its client gave them. Thread-safe."""

    def __init__(self, room: Room, weights: WeightStore) -> None:
        self.room, self.weights = room, weights
        self._held: dict[int, Held] = {}
        self._closed = False
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, number: int) -> Held:
        """The memory called so.

        Raises:
            Refused: there is none: it was freed, or what would have made it was not done.
        """
        with self._guard:
            held = self._held.get(number)
        if held is None:
            raise Refused(f"there is no tensor {number} here (any more)")
        return held

    def keep(self, number: int, held: Held) -> None:
        """``held`` stays until :meth:`free`. Its memory has been taken already."""
        with self._guard:
            before = self._held.pop(number, None)
            if not self._closed:
                self._held[number] = held
        self.room.count(1)
        self._let_go([each for each in (before, held if self._closed else None) if each])

    def free(self, numbers: Iterable[int]) -> None:
        """Nobody needs these any more. Numbers of none are passed over."""
        with self._guard:
            gone = [held for n in numbers if (held := self._held.pop(n, None)) is not None]
        self._let_go(gone)

    def own(self, held: Held) -> None:
        """See that ``held`` may be written to: a weight that others may hold is copied first.

        Raises:
            Full: there is no room for the copy.
        """
        if held.digest is None or held.tensor is None:
            return
        self.room.take(charged(held.size))
        held.tensor = held.tensor.clone()
        self.weights.release([held.digest])
        held.digest, held.bytes = None, charged(held.size)

    def free_all(self) -> None:
        """Nobody needs any of them any more."""
        self.free(list(self._held))

    def close(self) -> None:
        """The connection is gone, and all it kept."""
        with self._guard:
            self._closed = True
        self.free_all()

    def _let_go(self, gone: Iterable[Held]) -> None:
        for held in gone:
            self.room.give(held.bytes, 1)
            if held.digest is not None:
                self.weights.release([held.digest])
