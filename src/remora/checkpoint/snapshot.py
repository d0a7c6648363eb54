"""Copying a state into staging buffers while the next forward and backward run.

Only the optimizer's step changes parameters and moments, so from one step to the next they hold
still. What a forward does change (buffers of batch normalisation, say) must be cloned before the
copy is begun; see :attr:`remora.checkpoint.state.parts.Parts.volatile`.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from remora.checkpoint.layout.chunks import Segment
from remora.checkpoint.staging import Buffer

_copy_small = ctypes.PyDLL(None).memmove
"""Keeps the interpreter's lock, which costs more to give up and take again than a small copy."""
_copy_large = ctypes.CDLL(None).memmove
for _copy in (_copy_small, _copy_large):
    _copy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    _copy.restype = ctypes.c_void_p
SMALL_BYTES = 32 * 1024


class Arrival(Protocol):
    """When a chunk's bytes are all in its buffer."""

    def synchronize(self) -> None: ...


class Copy(ABC):
    """One state on its way into buffers, chunk by chunk, in one thread."""

    @abstractmethod
    def fill(self, buffer: Buffer, segments: Sequence[Segment]) -> Arrival | None:
        """Copy ``segments`` into ``buffer`` and zero what they leave; wait for the returned."""

    @abstractmethod
    def issued(self) -> None:
        """Every chunk's copy has been asked for."""

    @abstractmethod
    def hold_step(self) -> None:
        """Called by the training thread, after :meth:`issued`: let no later work overtake it."""


class HostCopy(Copy):
    """From host memory. ``document`` follows the tensors as the last source."""

    def __init__(self, tensors: Sequence[torch.Tensor], document: bytes) -> None:
        self._tensors = tensors
        self._contiguous: dict[int, torch.Tensor] = {}
        self._document = ctypes.create_string_buffer(document, len(document))

    def _address(self, source: int) -> int:
        if source == len(self._tensors):
            return ctypes.addressof(self._document)
        tensor = self._tensors[source]
        if not tensor.is_contiguous() or tensor.is_neg():
            if source not in self._contiguous:
                self._contiguous = {source: _plain(tensor)}  # in file order: one at a time
            tensor = self._contiguous[source]
        return tensor.data_ptr()

    def fill(self, buffer: Buffer, segments: Sequence[Segment]) -> None:
        _zero_rest(buffer, segments)
        self.move(buffer, segments)

    def move(self, buffer: Buffer, segments: Sequence[Segment]) -> None:
        for source, source_offset, chunk_offset, length in segments:
            copy = _copy_large if length > SMALL_BYTES else _copy_small
            copy(buffer.address + chunk_offset, self._address(source) + source_offset, length)

    def issued(self) -> None:
        self._contiguous = {}

    def hold_step(self) -> None:
        pass


class CudaCopy(Copy):
    """From CUDA devices, on a stream of its own, into pinned memory; host tensors as above.

    Made in the training thread: what its stream had been given by then comes before the copy.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], document: bytes, cuda: Any) -> None:
        self._host = HostCopy(tensors, document)
        self._tensors, self._cuda = tensors, cuda
        devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
        self._streams = {device: cuda.Stream(device) for device in devices}
        for device, stream in self._streams.items():
            stream.wait_stream(cuda.current_stream(device))
        self._last: dict[Any, Any] = {}
        self._flat: dict[int, torch.Tensor] = {}

    def fill(self, buffer: Buffer, segments: Sequence[Segment]) -> Arrival | None:
        _zero_rest(buffer, segments)
        self._host.move(buffer, [each for each in segments if not self._on_device(each.source)])
        used = set()
        for source, source_offset, chunk_offset, length in segments:
            if self._on_device(source):
                device = self._tensors[source].device
                with self._cuda.stream(self._streams[device]):
                    piece = self._bytes(source)[source_offset : source_offset + length]
                    target = buffer.memory[chunk_offset : chunk_offset + length]
                    target.copy_(piece, non_blocking=True)
                used.add(device)
        return _All([self._recorded(device) for device in used])

    def _on_device(self, source: int) -> bool:
        return source < len(self._tensors) and self._tensors[source].device.type == "cuda"

    def _bytes(self, source: int) -> torch.Tensor:
        if source not in self._flat:
            whole = _plain(self._tensors[source]).view(-1)
            self._flat = {source: whole.view(torch.uint8)}
        return self._flat[source]

    def _recorded(self, device: Any) -> Any:
        event = self._cuda.Event()
        event.record(self._streams[device])
        self._last[device] = event
        return event

    def issued(self) -> None:
        self._host.issued()
        self._flat = {}

    def hold_step(self) -> None:
        """The step's stream waits for the copies; the thread does not."""
        for device, event in self._last.items():
            self._cuda.current_stream(device).wait_event(event)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The elements as they read, one behind the other."""
    return tensor.resolve_neg().contiguous()


def _zero_rest(buffer: Buffer, segments: Sequence[Segment]) -> None:
    """Segments follow each other from the buffer's beginning; what comes after them is padding."""
    covered = segments[-1].chunk_offset + segments[-1].length if segments else 0
    buffer.memory[covered:].zero_()


class _All:
    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def synchronize(self) -> None:
        for event in self._events:
            event.synchronize()


def begin_copy(tensors: Sequence[torch.Tensor], document: bytes) -> Copy:
    """The way of copying that fits where ``tensors`` are."""
    if any(tensor.is_cuda for tensor in tensors):
        return CudaCopy(tensors, document, torch.cuda)
    return HostCopy(tensors, document)
