"""Memory of the device, as a program holds it: where it is on the server, and when it is gone.

Torch makes the tensors, views and all; each has a storage, and the storage has one of these. It
goes when the last tensor that looks at it does.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from remora.remote.eager.entries import Entry
    from remora.remote.eager.recorder import Recorder

Gone = tuple[int, int, int]
"""Of a memory that nobody looks at any more: its segment, its slot there, its number."""


class Memory:
    """One memory. It is changed by its recorder alone, which holds its lock."""

    __slots__ = ("_gone", "bytes", "number", "recorder", "segment", "slot", "unmade")

    def __init__(self, recorder: Recorder, size: int, gone: deque[Gone]) -> None:
        self.recorder, self.bytes = recorder, size
        self._gone = gone
        self.number = -1
        """What the server calls it; negative while nothing there has made it."""
        self.segment = -1
        """The last segment that it was met in."""
        self.slot = -1
        """Its number within that segment."""
        self.unmade: Entry | None = None
        """What would make it: memory that nobody has written to or read is not asked for."""

    def nbytes(self) -> int:
        """As a storage says it."""
        return self.bytes

    def cpu(self) -> torch.UntypedStorage:
        """A copy, here. Set where the device is told to torch."""
        raise NotImplementedError

    def clone(self) -> torch.UntypedStorage:
        """A copy, on the device. Likewise."""
        raise NotImplementedError

    def copy(self, memo: dict[Any, Any]) -> torch.UntypedStorage:
        """A copy, one for all tensors that look at this memory."""
        if id(self) not in memo:
            memo[id(self)] = self.clone()
        copied: torch.UntypedStorage = memo[id(self)]
        return copied

    def __del__(self) -> None:
        # In whatever thread drops it, at any time: nothing may be waited for here.
        if self.number >= 0:
            self._gone.append((self.segment, self.slot, self.number))


def attach(tensor: torch.Tensor, memory: Memory) -> None:
    """``tensor``, just made, is what looks at ``memory``.

    Its storage is empty to torch, and is told what it has to say of itself.
    """
    own = tensor.untyped_storage().__dict__
    own["remora"], own["nbytes"], own["size"] = memory, memory.nbytes, memory.nbytes
    own["cpu"], own["clone"], own["__deepcopy__"] = memory.cpu, memory.clone, memory.copy


def memory_of(tensor: torch.Tensor) -> Memory | None:
    """The memory that ``tensor`` looks at; None where it is none of the device's."""
    return getattr(tensor.untyped_storage(), "remora", None)
