"""A CUDA device, as a gate asks it: events of torch as marks, and writes by the device itself.

CUDA is never begun here: a driver is made when the program has done CUDA work. The events are its
own; the program sees none of them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

from remora.core.errors import Unavailable
from remora.share.gate.driver import Driver, Mark
from remora.share.gate.event_writes import EventWrites
from remora.share.gate.stream_writes import PAGE_BYTES, StreamWrites


class CudaMark(Mark):
    """An event of torch's, on one stream."""

    def __init__(self, event: Any, stream: Any) -> None:
        self.event, self.stream = event, stream

    def is_reached(self) -> bool:
        return bool(self.event.query())

    def wait(self) -> None:
        self.event.synchronize()


class CudaDriver(Driver):
    """Device number ``index``, as this process counts.

    Args:
        cuda: ``torch.cuda`` if None, which the program has imported.
        writes: makes what writes by the device, of a page's address and a stream.
    """

    def __init__(
        self,
        index: int,
        cuda: Any = None,
        writes: Callable[[int, int], StreamWrites] = StreamWrites,
    ) -> None:
        self._index, self._cuda = index, cuda or sys.modules["torch"].cuda
        self.device = str(self._cuda.get_device_properties(index).uuid)
        self._make_writes = writes
        self._address = 0
        self._by_device: StreamWrites | None = None
        self._by_events: EventWrites | None = None
        self._last: Any = None
        """The stream of the last write."""

    @property
    def writes_by(self) -> str:
        """What writes: the ``device``, or a thread that waits for ``events``; else ``nothing``."""
        if self._by_events is not None:
            return "events"
        return "nothing" if self._by_device is None else "device"

    def mark(self) -> Mark:
        return self._mark_on(self._cuda.current_stream(self._index))

    def elapsed_ns(self, first: Mark, last: Mark) -> int:
        if isinstance(first, CudaMark) and isinstance(last, CudaMark):
            return int(first.event.elapsed_time(last.event) * 1e6)
        raise TypeError("marks of another driver")

    def write_behind(self, words: memoryview, at: int, value: int, after: Sequence[Mark]) -> None:
        stream = self._cuda.current_stream(self._index)
        if self._by_events is None:
            try:
                self._write(stream, words, at, value, after)
            except Unavailable:
                self._by_device, self._by_events = None, EventWrites()
            else:
                return
        self._by_events.write([*after, self._mark_on(stream)], words, at, value)

    def is_capturing(self) -> bool:
        return bool(self._cuda.is_current_stream_capturing())

    def _mark_on(self, stream: Any) -> CudaMark:
        event = self._cuda.Event(enable_timing=True)
        event.record(stream)
        return CudaMark(event, stream)

    def _write(
        self, stream: Any, words: memoryview, at: int, value: int, after: Sequence[Mark]
    ) -> None:
        if self._by_device is None:
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(words))
            page = self._address - self._address % PAGE_BYTES
            self._by_device = self._make_writes(page, stream.cuda_stream)
        if self._last is not None and self._last != stream:
            after = [*after, self._mark_on(self._last)]  # behind the last write: it comes first
        for mark in after:
            if isinstance(mark, CudaMark) and mark.stream != stream:
                stream.wait_event(mark.event)
        self._by_device.write(stream.cuda_stream, self._address + 4 * at, value)
        self._last = stream
