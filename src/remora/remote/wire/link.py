"""Either end of one connected socket: messages with tensors, of many requests, both ways at once.

One thread reads at a time: whoever calls :meth:`Link.receive`. Any number send. A sender whose
bytes the socket does not take reads meanwhile, so two ends that both send much never wait for each
other. What it read is kept for the next to receive.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from remora.core.clock import Clock, SystemClock, now_of
from remora.core.errors import LinkLost, WireDamaged
from remora.remote.wire.arrived import Arrived, Cancelled, Sent
from remora.remote.wire.assembly import Assembly, NoPlaces, Places
from remora.remote.wire.counted import Counted
from remora.remote.wire.frames import Kind
from remora.remote.wire.limits import Limits
from remora.remote.wire.pool import Pool
from remora.remote.wire.reader import Hears, Reader
from remora.remote.wire.shared import Arena, ArenaSeen, MappedArena
from remora.remote.wire.tensors import Allocate
from remora.remote.wire.tls import TlsTransport
from remora.remote.wire.transport import PlainTransport, Transport
from remora.remote.wire.writer import Writer

TICK_S = 0.25
"""How often who waits looks at the clock."""
SOON_S = 0.005
"""How soon a signal is tried again that found another's turn."""
ARRIVED_BYTES = 1024
"""What a message without tensors comes to in memory, roughly."""
KEPT_BYTES = 64 * 2**20
"""What senders read meanwhile and nobody has received; beyond it they read no more."""


@dataclass(frozen=True)
class Patience:
    """How long the other end may be silent.

    After ``heartbeat_s`` of silence it is asked for a sign of life. When none has come for
    ``silence_s`` in all, the link is lost; while the question itself is still on its way over a
    slow line, that time does not run. Each end must therefore read at least that often.
    """

    heartbeat_s: float = 2.0
    silence_s: float = 20.0
    """Longer than a program may hold the interpreter without letting another thread answer."""


class Link:
    """One end of a connection. Thread-safe.

    Args:
        sock: connected; the link owns it from here on.
        union: the type of the messages that arrive: a tagged msgspec struct, or a union of them.
        limits: what is accepted, and what may be sent.
        allocate: gives memory for the bytes of a tensor that arrives; a pool of its own if None.
    """

    def __init__(
        self,
        sock: socket.socket,
        union: Any,
        *,
        limits: Limits | None = None,
        patience: Patience | None = None,
        clock: Clock | None = None,
        allocate: Allocate | None = None,
    ) -> None:
        self.limits, self.patience = limits or Limits(), patience or Patience()
        self.clock, self._allocate = clock or SystemClock(), allocate or Pool()
        self.peer = ""
        """What the other end calls itself, after a handshake."""
        self._tick_s = min(TICK_S, self.patience.heartbeat_s / 2)
        self.own_end, self.other_end = _ends(sock)
        """Of the connection, as this machine names them; empty for Unix sockets."""
        self._now = now_of(self.clock)
        self._transport = transport_of(sock)
        self._arena: Arena | None = None
        self._places: Places = NoPlaces()
        self._reads = threading.Lock()
        """Held by the thread that reads."""
        self._inbox: deque[Arrived] = deque()
        self._kept_bytes = 0
        self._lost: LinkLost | None = None
        self._heard_ns = self._now()
        self._acknowledged = 0
        """Bytes that the other end's machine had taken when this end last looked."""
        self._asked_at = 0
        """Bytes written when it was asked for a sign of life."""
        self._asked_ns: int | None = None
        """When the other end was asked for a sign of life that has not come."""
        self._writer = Writer(self._transport, self.limits, self.clock, self._blocked)
        self._reader = Reader(
            self._transport,
            self._assembly(union, self.limits),
            self.limits,
            self._keep,
            Hears(self._cancelled, self._pinged, self._released, self._mapped),
        )

    def send(
        self,
        request: int,
        message: Any,
        tensors: Sequence[torch.Tensor] = (),
        *,
        urgent: bool = False,
        until_ns: int | None = None,
    ) -> Sent:
        """Send ``message`` and ``tensors``; returns when the socket has taken all of it.

        Messages of one request stay in order. Small ones (64 KiB of tensors) go between the chunks
        of large ones of other requests; with ``urgent`` a large one does too. The tensors must not
        be written to before this returns.

        Args:
            until_ns: on the link's clock; what has not been sent by then is cancelled.

        Raises:
            BadValue: beyond the limits, or a tensor that is not strided or not on the CPU. Nothing
                was sent.
            DeadlineExceeded: ``until_ns`` came first.
            LinkLost: the other end is gone.
        """
        if self._lost is not None:
            raise self._loss(self._lost)
        try:
            return self._writer.send(request, message, tensors, urgent, until_ns)
        except LinkLost as error:
            raise self._fail(error) from None

    def receive(self) -> Arrived:
        """The next message, waiting for it.

        Raises:
            LinkLost: the other end is gone or silent; ``WireDamaged`` where it sent what is none.
        """
        while True:
            arrived = self.receive_within(3600.0)
            if arrived is not None:
                return arrived

    def receive_within(self, timeout_s: float) -> Arrived | None:
        """As :meth:`receive`, for at most ``timeout_s``; None when nothing came whole."""
        until_ns = self._now() + round(timeout_s * 1e9)
        if not self._reads.acquire(timeout=max(0.0, timeout_s)):
            return None
        try:
            return self._received(until_ns)
        except LinkLost as error:
            raise self._fail(error) from None
        finally:
            self._reads.release()

    def cancel(self, request: int) -> None:
        """Send no more of ``request``, and tell the other end to do the same. Does not block."""
        self._writer.stop(request, told=True)
        try:
            self._writer.signal(Kind.CANCEL, request)
        except LinkLost as error:
            self._fail(error)

    def adopt(self, union: Any, *, limits: Limits, sending: Limits, peer: str) -> None:
        """From here on receive ``union`` within ``limits``, and send within ``sending``.

        Between two messages only: after a handshake.
        """
        self.limits, self.peer = limits, peer
        self._writer.limits = sending
        self._reader.adopt(self._assembly(union, limits), limits)

    def offer(self, arena: Arena) -> None:
        """Put large tensors into ``arena`` as soon as the other end says that it has mapped it."""
        self._arena = arena

    def map(self, seen: ArenaSeen, *, lends: bool) -> bool:
        """Map the other end's arena, and say so to it, if it is on this machine.

        Before :meth:`adopt`. ``lends`` as for :class:`MappedArena`.
        """
        try:
            self._places = MappedArena(
                seen, lends=lends, allocate=self._allocate, released=self._writer.released
            )
        except OSError:
            return False  # another machine, or another user's process: the socket does it all
        self._writer.signal(Kind.MAPPED)
        return True

    @property
    def shares(self) -> bool:
        """Whether large tensors are sent through shared memory."""
        return self._writer.arena is not None

    @property
    def counted(self) -> Counted:
        """The traffic until now."""
        sent, received = self._writer.traffic, self._reader.traffic
        return Counted(
            sent.bytes, received.bytes, sent.frames, received.frames, sent.messages,
            received.messages, sent.shared_bytes, received.shared_bytes,
        )  # fmt: skip

    def close(self) -> None:
        """End the connection; who sends or receives gets ``LinkLost``. May be called again."""
        self._fail(LinkLost("the connection was closed here"))
        with self._reads:
            self._writer.close()
            self._unmap()

    def _unmap(self) -> None:
        """Let go of shared memory now: what is left of a link may be garbage for long."""
        if self._arena is not None:
            self._arena.close()
        self._arena = self._writer.arena = None
        self._places = NoPlaces()
        self._reader.adopt(self._assembly(None, self.limits), self.limits)

    def _assembly(self, union: Any, limits: Limits) -> Assembly:
        return Assembly(union, limits, self.clock, self._allocate, self._places)

    def _received(self, until_ns: int) -> Arrived | None:
        while not self._inbox:
            if self._lost is not None:
                raise self._lost
            left_s = (until_ns - self._now()) / 1e9
            tick_s = SOON_S if self._writer.waiting else self._tick_s
            if self._transport.wait(min(left_s, tick_s), reading=True, writing=False):
                self._pump()
                if left_s > -SOON_S:
                    continue  # what is there is read, though not without end
            else:
                self._writer.flush()
                self._expect_life()
            if left_s <= 0 and not self._inbox:
                return None
        arrived = self._inbox.popleft()
        self._kept_bytes -= arrived.wire_bytes + arrived.shared_bytes + ARRIVED_BYTES
        return arrived

    def _pump(self) -> None:
        if self._reader.pump():
            self._heard_ns, self._asked_ns = self._now(), None

    def _keep(self, arrived: Arrived) -> None:
        self._inbox.append(arrived)
        self._kept_bytes += arrived.wire_bytes + arrived.shared_bytes + ARRIVED_BYTES

    def _cancelled(self, request: int) -> None:
        self._writer.stop(request, told=False)
        now_ns = self._now()
        self._keep(Arrived(request, Cancelled(), [], now_ns, now_ns, 0, 0))

    def _pinged(self) -> None:
        self._writer.signal(Kind.PONG)

    def _released(self, head: memoryview) -> None:
        if self._arena is None or len(head) % 8:
            raise WireDamaged("shared memory was given back that was never lent")
        for at in range(0, len(head), 8):
            self._arena.give_back(int.from_bytes(head[at : at + 8], "little"))

    def _mapped(self) -> None:
        if self._arena is None:
            raise WireDamaged("shared memory was mapped that was never offered")
        self._arena.close()
        self._writer.arena = self._arena

    def _expect_life(self) -> None:
        """Nothing has come: ask for a sign of life, and some time later give up."""
        now_ns, patience = self._now(), self.patience
        if self._asked_ns is None:
            if now_ns - self._heard_ns > patience.heartbeat_s * 1e9:
                self._asked_ns = now_ns
                self._writer.signal(Kind.PING)
                self._asked_at = self._writer.traffic.bytes
            return
        acknowledged = self._writer.traffic.bytes - self._transport.unacknowledged()
        if self._acknowledged < min(acknowledged, self._asked_at):
            self._writer.progress_ns = now_ns  # the question is on its way still: slow, not silent
        self._acknowledged = acknowledged
        since_ns = max(self._asked_ns, self._writer.progress_ns)
        if now_ns - since_ns > (patience.silence_s - patience.heartbeat_s) * 1e9:
            raise LinkLost(f"the other end has been silent for {patience.silence_s:g} s")

    def _blocked(self, limit_s: float, since_ns: int) -> None:
        """A sender's bytes are not taken: read meanwhile, unless another thread does."""
        reads = self._kept_bytes < KEPT_BYTES and self._reads.acquire(blocking=False)
        try:
            self._transport.wait(min(limit_s, self._tick_s), reading=reads, writing=True)
            if reads:
                self._pump()
        finally:
            if reads:
                self._reads.release()
        if self._now() - since_ns > self.patience.silence_s * 1e9:
            raise LinkLost(f"the other end has read nothing for {self.patience.silence_s:g} s")

    def _fail(self, error: LinkLost) -> LinkLost:
        """The link is lost, and why: the first reason stays."""
        if self._lost is None:
            self._lost = error
        self._transport.shut()
        return self._loss(self._lost)

    @staticmethod
    def _loss(lost: LinkLost) -> LinkLost:
        """The same error anew: each thread that gets it adds its own traceback."""
        return type(lost)(*lost.args)


def _ends(sock: socket.socket) -> tuple[str, str]:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "", ""
    own, other = sock.getsockname(), sock.getpeername()
    return f"{own[0]} {own[1]}", f"{other[0]} {other[1]}"


def transport_of(sock: socket.socket) -> Transport:
    """The transport for ``sock``: with TLS, or plain."""
    if isinstance(sock, ssl.SSLSocket):
        return TlsTransport(sock)
    return PlainTransport(sock)
