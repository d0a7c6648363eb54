"""Bytes from a socket, turned into frames and those into messages, in one thread at a time.

What belongs to a tensor is read straight into the tensor's memory. One system call fills the rest
of a tensor and takes the next header with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remora.core.errors import LinkLost, WireDamaged
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.assembly import Assembly, Incoming
from remora.remote.wire.counted import Traffic
from remora.remote.wire.frames import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    NUMBERS,
    VERSION,
    Frame,
    Kind,
    unpack,
)
from remora.remote.wire.limits import Limits
from remora.remote.wire.transport import Transport

BUFFER_BYTES = 64 * 2**10
"""Read at once: a small message in one call, and little to copy of a large one."""
MOST_DIRECT_BYTES = 4 * 2**20
"""Read into tensors by one call."""


@dataclass(frozen=True)
class Hears:
    """What is told of frames that are no messages."""

    cancelled: Callable[[int], object]
    pinged: Callable[[], object]
    released: Callable[[memoryview], object]
    mapped: Callable[[], object]


class Reader:
    """The reading half of a link.

    Args:
        arrived: told of each message that is whole.
    """

    def __init__(
        self,
        transport: Transport,
        assembly: Assembly,
        limits: Limits,
        arrived: Callable[[Arrived], object],
        hears: Hears,
    ) -> None:
        self._transport, self._assembly, self._limits = transport, assembly, limits
        self._arrived, self._hears = arrived, hears
        self.traffic = Traffic()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        """What was read and not yet understood lies between."""
        self._sequence = 0
        self._frame: Frame | None = None
        """The frame whose header has been read, and not all of what follows."""
        self._incoming: Incoming | None = None
        """Its message, when its head has been read too."""
        self._body_left = 0

    def adopt(self, assembly: Assembly, limits: Limits) -> None:
        """Read other messages from here on; between two messages only."""
        self._assembly, self._limits = assembly, limits

    def pump(self) -> bool:
        """Read once and understand what came; False when nothing was there.

        Raises:
            LinkLost: the other end closed the connection.
            WireDamaged: what came is no frame in order.
        """
        if self._start == self._end:
            self._start = self._end = 0
        try:
            count = self._transport.read_into(self._room())
        except OSError as error:
            raise LinkLost(f"the connection failed: {error.strerror or error}") from error
        if count is None:
            return False
        if not count:
            raise LinkLost("the other end closed the connection")
        self.traffic.bytes += count
        if self._incoming is not None:
            count -= self._took(self._incoming, count)
        self._end += count
        while self._small() or self._step():
            pass
        return True

    def _room(self) -> list[memoryview]:
        """Where the next bytes go: the tensors that wait for them, then the buffer."""
        if self._incoming is None:
            return [self._buffer[self._end :]]
        direct = self._incoming.rest.front(min(self._body_left, MOST_DIRECT_BYTES))
        covered = sum(view.nbytes for view in direct) == self._body_left
        return [*direct, self._buffer] if covered else direct

    def _took(self, incoming: Incoming, count: int) -> int:
        """Of ``count`` bytes that were read, those that went into tensors."""
        direct = min(count, self._body_left)
        incoming.rest.advance(direct)
        self._body_left -= direct
        return direct

    def _small(self) -> bool:
        """Read a message that is there whole in one go: what :meth:`_step` does in its parts."""
        middle = self._start + HEADER_BYTES
        if middle > self._end or self._frame is not None:
            return False
        magic, version, kind, request, sequence, head_bytes, body_bytes = HEADER.unpack_from(
            self._buffer, self._start
        )
        end = middle + head_bytes + body_bytes
        if kind != Kind.WHOLE or magic != MAGIC or version != VERSION or end > self._end:
            return False  # not there, or not right, which is for the other way to say
        if sequence != self._sequence or not 0 < head_bytes <= self._limits.head_bytes:
            return False
        head = self._buffer[middle : middle + head_bytes]
        arrived = self._assembly.whole(request, head, self._buffer[middle + head_bytes : end])
        self._sequence = (sequence + 1) % NUMBERS
        self._start = end
        self.traffic.frames += 1
        self._has_arrived(arrived)
        return True

    def _step(self) -> bool:
        """Go one part of a frame on: header, head or body; False when bytes are missing."""
        if self._frame is None:
            return self._header()
        if self._incoming is None:
            return self._head(self._frame)
        return self._body(self._incoming)

    def _header(self) -> bool:
        if self._end - self._start < HEADER_BYTES:
            return self._lacks(HEADER_BYTES)
        frame = unpack(self._buffer, self._limits, self._start)
        if frame.sequence != self._sequence:
            raise WireDamaged(f"frame {frame.sequence} arrived where {self._sequence} was due")
        self._sequence = (self._sequence + 1) % NUMBERS
        self._start += HEADER_BYTES
        self.traffic.frames += 1
        self._frame = frame
        return True

    def _has_arrived(self, arrived: Arrived) -> None:
        self.traffic.messages += 1
        self.traffic.shared_bytes += arrived.shared_bytes
        self._arrived(arrived)

    def _head(self, frame: Frame) -> bool:
        if self._end - self._start < frame.head_bytes:
            return self._lacks(frame.head_bytes)
        head = self._buffer[self._start : self._start + frame.head_bytes]
        self._start += frame.head_bytes
        if frame.kind is Kind.DATA:
            self._incoming = self._assembly.more(frame)
        elif frame.kind in (Kind.WHOLE, Kind.BEGIN):
            self._incoming = self._assembly.begin(frame, head)
        else:
            self._frame = None
            self._told(frame, head)
        self._body_left = frame.body_bytes
        return True

    def _told(self, frame: Frame, head: memoryview) -> None:
        if frame.kind is Kind.CANCEL:
            self._assembly.drop(frame.request)
            self._hears.cancelled(frame.request)
        elif frame.kind is Kind.PING:
            self._hears.pinged()
        elif frame.kind is Kind.RELEASE:
            self._hears.released(head)
        elif frame.kind is Kind.MAPPED:
            self._hears.mapped()

    def _body(self, incoming: Incoming) -> bool:
        there = min(self._end - self._start, self._body_left)
        if there:
            incoming.rest.fill(self._buffer[self._start : self._start + there])
            self._start += there
            self._body_left -= there
        if self._body_left:
            return False
        self._frame = self._incoming = None
        arrived = self._assembly.end(incoming)
        if arrived is not None:
            self._has_arrived(arrived)
        return True

    def _lacks(self, count: int) -> bool:
        """Make room for ``count`` bytes from the start on; they are within the limits."""
        if self._start + count > len(self._buffer):
            size = max(count, BUFFER_BYTES)
            buffer = self._buffer if size <= len(self._buffer) else memoryview(bytearray(size))
            there = self._end - self._start
            buffer[:there] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = buffer, 0, there
        return False
