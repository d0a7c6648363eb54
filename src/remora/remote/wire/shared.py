"""Tensors between two processes of one machine: through memory that both have mapped.

Each end makes an arena for what it sends: a memory file without a name, so nothing of it is left
when both are gone, however they go. It tells the other end its process and its descriptor. That end
opens it there, and knows by a random nonce in it that it is the same machine and the right memory.
The file is sealed: nobody can shrink it under the other's feet.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from remora.core.errors import WireDamaged
from remora.remote.wire.tensors import INLINE, Allocate, Spec, view_of

ARENA_BYTES = 256 * 2**20
"""Each way, on each connection. Memory is taken only for what is used of it."""
MOST_ARENA_BYTES = 2**34
LEAST_SHARED_BYTES = 64 * 2**10
"""Smaller tensors are faster through the socket, with their message."""
NONCE_BYTES = 16
FIRST_PLACE = 4096
"""Before it lies the nonce."""
STEP = 64
"""Places are multiples of it: every dtype is aligned there."""
_NAME = "remora-wire"
_LINK = f"/memfd:{_NAME}"
_SEALS = 0
if hasattr(fcntl, "F_ADD_SEALS"):
    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class ArenaSeen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the other end finds an arena."""

    process: int
    descriptor: int
    nonce: bytes
    size: int


class Arena:
    """Memory that this end writes and the other reads. Thread-safe.

    Raises ``OSError`` where the machine has no such memory.
    """

    def __init__(self, size: int = ARENA_BYTES) -> None:
        if not _SEALS:
            raise OSError("this system has no sealed memory files")
        self._file = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._file, size)
            fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = np.frombuffer(mmap.mmap(self._file, size), dtype=np.uint8)
        except BaseException:
            self.close()
            raise
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._memory[:NONCE_BYTES] = np.frombuffer(nonce, dtype=np.uint8)
        self.seen = ArenaSeen(os.getpid(), self._file, nonce, size)
        self._lock = threading.Lock()
        self._free: list[tuple[int, int]] = [(FIRST_PLACE, size)]
        """Begin and end of each gap, in order."""
        self._lent: dict[int, int] = {}
        """Where each place that is in use ends."""

    @property
    def lent_bytes(self) -> int:
        """The memory that the other end has not given back."""
        with self._lock:
            return sum(end - place for place, end in self._lent.items())

    def put(self, source: memoryview) -> int | None:
        """Copy ``source`` in; its place, or None when there is no room."""
        place = self._reserve(source.nbytes)
        if place is not None:
            np.copyto(self._memory[place : place + source.nbytes], np.frombuffer(source, np.uint8))
        return place

    def give_back(self, place: int) -> None:
        """The other end needs ``place`` no more.

        Raises:
            WireDamaged: it was not lent.
        """
        with self._lock:
            end = self._lent.pop(place, None)
            if end is None:
                raise WireDamaged(f"the place {place} of shared memory was given back, not lent")
            self._free = _joined([*self._free, (place, end)])

    def close(self) -> None:
        """Close the descriptor; who has mapped the memory keeps it."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1

    def _reserve(self, size: int) -> int | None:
        need = -(-size // STEP) * STEP
        with self._lock:
            for index, (begin, end) in enumerate(self._free):  # the first: its pages are warm
                if end - begin >= need:
                    self._free[index] = (begin + need, end)
                    self._lent[begin] = begin + need
                    return begin
        return None


class Placed:
    """The tensors of one message, those put into ``arena`` that are large and find room there."""

    def __init__(self, arena: Arena, tensors: Sequence[torch.Tensor], specs: list[Spec]) -> None:
        self._arena = arena
        self.inline: list[torch.Tensor] = []
        """The others."""
        self.specs: list[Spec] = []
        self.bytes = 0
        self.announced = False
        """From then on the other end gives the places back."""
        for tensor, spec in zip(tensors, specs, strict=True):
            place = arena.put(view_of(tensor)) if tensor.nbytes >= LEAST_SHARED_BYTES else None
            if place is None:
                self.inline.append(tensor)
                self.specs.append(spec)
            else:
                self.bytes += tensor.nbytes
                self.specs.append(Spec(spec.dtype, spec.shape, place))

    def take_back_unless_announced(self) -> None:
        """Nothing of the message was written, so nobody else gives its places back."""
        if not self.announced:
            for spec in self.specs:
                if spec.place != INLINE:
                    self._arena.give_back(spec.place)


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """``gaps`` in order, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(gap for gap in gaps if gap[0] < gap[1]):
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


class MappedArena:
    """The other end's arena, mapped here.

    Args:
        lends: tensors are views of it until they are gone, and the other end could still change
            them: for a client, which trusts its server. Otherwise they are copied.
        allocate: memory for copies.
        released: told of places that are needed no more, from any thread.

    Raises:
        OSError: it is not to be found here, or is not what it is said to be.
    """

    def __init__(
        self,
        seen: ArenaSeen,
        *,
        lends: bool,
        allocate: Allocate,
        released: Callable[[int], object],
    ) -> None:
        self._lends, self._allocate, self._released = lends, allocate, released
        self._memory = _mapped(seen, writable=lends)

    def take(self, place: int, size: int) -> np.ndarray:
        """The bytes at ``place``.

        Raises:
            WireDamaged: they are not within the arena.
            MemoryError: there is none for a copy.
        """
        if place < FIRST_PLACE or place % STEP or place + size > len(self._memory) or not size:
            raise WireDamaged(
                f"{size} bytes at {place} of shared memory were announced; "
                f"it has {len(self._memory)}"
            )
        there = self._memory[place : place + size]
        if self._lends:
            weakref.finalize(there, self._released, place).atexit = False
            return there
        try:
            copy = self._allocate(size)
            np.copyto(copy, there)
        finally:
            self._released(place)
        return copy


def _mapped(seen: ArenaSeen, *, writable: bool) -> np.ndarray:
    path = f"/proc/{int(seen.process)}/fd/{int(seen.descriptor)}"
    if not str(Path(path).readlink()).startswith(_LINK):
        raise OSError("that descriptor is no arena")
    access = os.O_RDWR if writable else os.O_RDONLY
    file = os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        # What is not sealed could be cut short later, and reading it would end this process.
        sealed = fcntl.fcntl(file, fcntl.F_GET_SEALS) & _SEALS == _SEALS
        if not sealed or size != seen.size or not FIRST_PLACE < size <= MOST_ARENA_BYTES:
            raise OSError("that memory is not sealed, or not of the size it is said to have")
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        pages = mmap.mmap(file, size, mmap.MAP_SHARED, protection)
    finally:
        os.close(file)
    if not hmac.compare_digest(bytes(pages[:NONCE_BYTES]), seen.nonce):
        raise OSError("that memory is another one")
    return np.frombuffer(pages, dtype=np.uint8)
