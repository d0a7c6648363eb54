"""Messages to a socket, from any thread: whole when small, in chunks when large.

Between two chunks of a large message whatever is small goes first. A frame that has begun is always
written to its end, by whoever writes next if its own sender has no time left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from remora.core.clock import Clock, now_of
from remora.core.errors import BadValue, DeadlineExceeded, LinkLost
from remora.core.units import format_bytes
from remora.remote.wire.arrived import Sent
from remora.remote.wire.counted import Traffic
from remora.remote.wire.frames import HEADER_BYTES, NUMBERS, Kind, pack
from remora.remote.wire.limits import Limits
from remora.remote.wire.shared import LEAST_SHARED_BYTES, Arena, Placed
from remora.remote.wire.span import Span
from remora.remote.wire.tensors import Spec, copy_of, describe, view_of
from remora.remote.wire.transport import Transport, Views
from remora.remote.wire.turns import Turns

SMALL_BYTES = 64 * 2**10
"""Tensors up to this travel with their message in one frame, ahead of every chunk."""
LEAST_CHUNK_BYTES = 32 * 2**10
MOST_CHUNK_BYTES = 512 * 2**10
MOST_SIGNALS = 65_536
"""That wait to be written: more there are only for an end that does not read."""
CHUNK_NS = 4_000_000
"""Chunks shrink until one is written in about this time: so long may something small wait."""


class Outgoing:
    """One message of which only a part has been written."""

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.stopped = False
        """The request was cancelled: no more of it is written."""
        self.told = False
        """The other end is told so by somebody else."""


class Writer:
    """The writing half of a link.

    Args:
        blocked: called, with the turn held, when the socket takes nothing: waits for at most as
            many seconds as its first argument says, and may read meanwhile. The second is since
            when nothing has been taken, in ns. Raises ``LinkLost``.
    """

    def __init__(
        self,
        transport: Transport,
        limits: Limits,
        clock: Clock,
        blocked: Callable[[float, int], object],
    ) -> None:
        self._transport, self.limits, self._blocked = transport, limits, blocked
        self._now = now_of(clock)
        self.traffic = Traffic()
        self.progress_ns = self._now()
        """When the socket last took something that it had not taken at once: it is being read."""
        self.arena: Arena | None = None
        """Shared memory for large tensors, once the other end has mapped it."""
        self._encoder = msgspec.msgpack.Encoder()
        self._turns = Turns()
        self._sequence = 0
        self._unwritten = b""
        """The rest of a frame whose sender had no time left."""
        self._signals: deque[tuple[Kind, int, bytes]] = deque()
        """Frames without a body that wait for a turn."""
        self._open: dict[int, Outgoing] = {}
        self._closed = threading.Condition()
        """Told when a message is no longer open."""
        self._chunk_bytes = MOST_CHUNK_BYTES

    def send(
        self,
        request: int,
        message: Any,
        tensors: Sequence[torch.Tensor],
        urgent: bool,
        until_ns: int | None,
    ) -> Sent:
        """Write one message. See :meth:`Link.send`."""
        begun_ns = self._now()
        specs, total = describe(tensors, self.limits)
        placed, arena = None, self.arena
        if arena is not None and total >= LEAST_SHARED_BYTES:
            placed = Placed(arena, tensors, specs)
            tensors, specs, total = placed.inline, placed.specs, total - placed.bytes
        try:
            head = self._encoded(message, specs)
            if total <= SMALL_BYTES:
                body = b"".join([copy_of(tensor) for tensor in tensors])
                encoded_ns = self._now()
                whole, written = True, self._small(request, head, body, until_ns, placed)
            else:
                views = [view_of(tensor) for tensor in tensors]
                encoded_ns = self._now()
                whole, written = self._bulk(request, head, views, total, urgent, until_ns, placed)
        finally:
            if placed is not None:
                placed.take_back_unless_announced()
        shared_bytes = placed.bytes if placed is not None else 0
        return Sent(whole, begun_ns, encoded_ns, self._now(), written, shared_bytes)

    def signal(self, kind: Kind, request: int = 0, head: bytes = b"") -> None:
        """Have a frame without a body written soon, without waiting for the socket."""
        if kind is not Kind.PONG or not self._signals:  # one sign of life is as good as many
            self._signals.append((kind, request, head))
        self.flush()

    def released(self, place: int) -> None:
        """Tell of a place in the other end's arena with whatever is written next.

        Called by finalisers, at any point of any thread: it takes no lock.
        """
        self._signals.append((Kind.RELEASE, 0, place.to_bytes(8, "little")))

    def stop(self, request: int, *, told: bool) -> None:
        """Write no more of ``request``; ``told``: the caller sends a cancel frame for it."""
        outgoing = self._open.get(request)
        if outgoing is not None:
            outgoing.told = told
            outgoing.stopped = True

    @property
    def waiting(self) -> bool:
        """Whether signals, or the rest of a frame, wait for a turn."""
        return bool(self._signals or self._unwritten)

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it, if it is nobody else's turn."""
        if len(self._signals) > MOST_SIGNALS:
            raise LinkLost("the other end sends on and reads nothing")
        while self.waiting and self._turns.take_now():
            try:
                due = self._unwritten or self._due()
                taken = self._take([due]) or 0
                self._unwritten = due[taken:]
            finally:
                self._turns.give()
            if self._unwritten:
                return

    def close(self) -> None:
        """Close the socket when nobody writes any more; nobody reads."""
        self._turns.take(small=True)
        try:
            self._transport.close()
        finally:
            self._turns.give()

    def _encoded(self, message: Any, specs: list[Spec]) -> bytes:
        head = self._encoder.encode((message, specs))
        if len(head) > self.limits.head_bytes:
            raise BadValue(
                f"a message of {len(head)} bytes is too long; "
                f"at most {self.limits.head_bytes} are accepted: send what is large as a tensor"
            )
        return head

    def _small(
        self, request: int, head: bytes, body: bytes, until_ns: int | None, placed: Placed | None
    ) -> int:
        if request in self._open:
            self._open_when_free(request, 0, until_ns, keep=False)
        if not self._turns.take_now():
            self._turn(small=True, until_ns=until_ns)
        try:
            due = self._due() if self._signals or self._unwritten else b""
            if placed is not None:
                self._announces(placed)
            frame = self._header(Kind.WHOLE, request, len(head), len(body)) + head + body
            self._write([due + frame], len(due) + len(frame), until_ns)
            self.traffic.messages += 1
            return len(frame)
        finally:
            self._turns.give()
            if self._signals or self._unwritten:
                self.flush()

    def _bulk(
        self,
        request: int,
        head: bytes,
        views: list[memoryview],
        total: int,
        urgent: bool,
        until_ns: int | None,
        placed: Placed | None,
    ) -> tuple[bool, int]:
        outgoing = self._open_when_free(request, total, until_ns)
        rest, written, kind = Span(views), 0, Kind.BEGIN
        try:
            while rest.left:
                self._turn(small=urgent, until_ns=until_ns)
                try:
                    if outgoing.stopped:
                        break
                    if kind is Kind.BEGIN and placed is not None:
                        self._announces(placed)
                    written += self._chunk(kind, request, head, rest, until_ns)
                    self.traffic.messages += not rest.left
                finally:
                    self._give_turn()
                kind, head = Kind.DATA, b""
            if rest.left and not outgoing.told:
                self.signal(Kind.CANCEL, request)
            return not rest.left, written
        except LinkLost:
            raise
        except BaseException:  # out of time, or interrupted: what has begun never becomes whole
            self.signal(Kind.CANCEL, request)
            raise
        finally:
            self._close(request, outgoing)

    def _announces(self, placed: Placed) -> None:
        """The next frame tells of what is in shared memory."""
        placed.announced = True
        self.traffic.shared_bytes += placed.bytes

    def _chunk(
        self, kind: Kind, request: int, head: bytes, rest: Span, until_ns: int | None
    ) -> int:
        """Write the next of ``rest`` as one frame, and learn how much goes in a short time."""
        views = rest.front(self._chunk_bytes)
        size = sum(view.nbytes for view in views)
        if kind is Kind.BEGIN and size == rest.left:
            kind = Kind.WHOLE
        began_ns = self._now()
        written = self._frame(kind, request, head, views, size, until_ns)
        took_ns = self._now() - began_ns
        if took_ns > 2 * CHUNK_NS:
            self._chunk_bytes = max(LEAST_CHUNK_BYTES, self._chunk_bytes // 2)
        elif took_ns < CHUNK_NS // 2:
            self._chunk_bytes = min(MOST_CHUNK_BYTES, self._chunk_bytes * 2)
        rest.advance(size)
        return written

    def _frame(
        self,
        kind: Kind,
        request: int,
        head: bytes,
        views: list[memoryview],
        size: int,
        until_ns: int | None,
    ) -> int:
        prefix = self._due() if self.waiting else b""
        prefix += self._header(kind, request, len(head), size) + head
        self._write([prefix, *views], len(prefix) + size, until_ns)
        return HEADER_BYTES + len(head) + size

    def _due(self) -> bytes:
        """What waits, as bytes in their order, taken out of the queue."""
        due = [self._unwritten]
        self._unwritten = b""
        while self._signals:
            kind, request, head = self._signals.popleft()
            due += [self._header(kind, request, len(head), 0), head]
        return b"".join(due)

    def _header(self, kind: Kind, request: int, head_bytes: int, body_bytes: int) -> bytes:
        sequence, self._sequence = self._sequence, (self._sequence + 1) % NUMBERS
        self.traffic.frames += 1
        return pack(kind, request, sequence, head_bytes, body_bytes)

    def _write(self, views: Views, size: int, until_ns: int | None) -> None:
        taken = self._take(views) or 0
        if taken == size:
            return
        rest = Span(map(memoryview, views))
        rest.advance(taken)
        try:
            self._write_rest(rest, until_ns)
        except BaseException:  # whoever writes next ends the frame
            self._unwritten = rest.copied()
            raise

    def _write_rest(self, rest: Span, until_ns: int | None) -> None:
        since_ns = self._now()
        while rest.left:
            count = self._take(rest.front(rest.left))
            if count:
                rest.advance(count)
                since_ns = self.progress_ns = self._now()
            elif until_ns is not None and self._now() >= until_ns:
                raise DeadlineExceeded("the connection took no more bytes within the time given")
            else:
                self._blocked(self._left_s(until_ns), since_ns)

    def _take(self, views: Views) -> int | None:
        try:
            count = self._transport.write(views)
        except OSError as error:
            raise LinkLost(f"the connection failed: {error.strerror or error}") from error
        self.traffic.bytes += count or 0
        return count

    def _left_s(self, until_ns: int | None) -> float:
        return 3600.0 if until_ns is None else max(0.0, (until_ns - self._now()) / 1e9)

    def _turn(self, *, small: bool, until_ns: int | None) -> None:
        limit_s = None if until_ns is None else self._left_s(until_ns)
        if not self._turns.take(small=small, timeout_s=limit_s):
            raise DeadlineExceeded("other messages held the connection for all the time given")

    def _give_turn(self) -> None:
        self._turns.give()
        if self.waiting:
            self.flush()

    def _open_when_free(
        self, request: int, size: int, until_ns: int | None, *, keep: bool = True
    ) -> Outgoing:
        """Wait until no message of ``request`` is open and what is in flight leaves room."""
        outgoing, limits = Outgoing(size), self.limits
        if size > limits.in_flight_bytes:
            raise BadValue(
                f"a message has {format_bytes(size)} of tensors; at most "
                f"{format_bytes(limits.in_flight_bytes)} may be on their way: send it in parts"
            )

        def is_free() -> bool:
            held = sum(each.bytes for each in self._open.values())
            has_room = held + size <= limits.in_flight_bytes and len(self._open) < limits.open
            return request not in self._open and has_room

        limit_s = None if until_ns is None else self._left_s(until_ns)
        with self._closed:
            if not self._closed.wait_for(is_free, limit_s):
                raise DeadlineExceeded("other messages held the connection for all the time given")
            if keep:
                self._open[request] = outgoing
        return outgoing

    def _close(self, request: int, outgoing: Outgoing) -> None:
        with self._closed:
            if self._open.get(request) is outgoing:
                del self._open[request]
            self._closed.notify_all()
