"""A network in a process: bytes pass at a given rate and after a given delay, in order.

A client connects to the relay instead of the server. Each direction of each connection has a line
of its own: it sends one byte after another at the rate, and each arrives a delay after it was sent.
What the line has not taken waits with its sender, as before a real one. For measurements on a
network that is not here, and for tests of what a network does when it fails.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from enum import Enum

from remora.remote.wire.address import Address, TcpAddress, open_socket, parse_address

BUFFER_BYTES = 64 * 2**10
"""In each socket of the relay. The kernel would otherwise hold megabytes before the line."""
LEAST_PIECE_BYTES = 1500
PIECE_S = 0.001
"""What the line sends in this time is passed on in one piece."""
AHEAD_S = 0.002
"""So much of the line's time may be taken up by what waits before it."""
LOOK_S = 0.02
"""How often a line looks whether the network has failed."""


class State(Enum):
    """What the network does."""

    PASSES = "passes"
    STALLED = "stalled"
    HALF_OPEN = "half open"
    CUT = "cut"


class Line:
    """One direction of one connection: when its bytes arrive. It knows no sockets.

    Args:
        bits_per_s: None: as fast as it goes.
        delay_s: from a byte's last bit sent until it arrives.
    """

    def __init__(self, bits_per_s: float | None, delay_s: float) -> None:
        self._seconds_a_byte = 8 / bits_per_s if bits_per_s else 0.0
        self._delay_s = delay_s
        self._free_s = 0.0
        self._sent: deque[tuple[float, bytes]] = deque()
        piece = PIECE_S / self._seconds_a_byte if self._seconds_a_byte else BUFFER_BYTES
        self.piece_bytes = max(LEAST_PIECE_BYTES, min(BUFFER_BYTES, round(piece)))

    def send(self, data: bytes, now_s: float) -> None:
        """``data`` is sent after all before it. Empty: the end."""
        begins_s = max(now_s, self._free_s)
        self._free_s = begins_s + len(data) * self._seconds_a_byte
        self._sent.append((self._free_s + self._delay_s, data))

    def arrived(self, now_s: float) -> list[bytes]:
        """What has arrived by now and was not given before."""
        there = []
        while self._sent and self._sent[0][0] <= now_s:
            there.append(self._sent.popleft()[1])
        return there

    def takes_more(self, now_s: float) -> bool:
        """Whether the next bytes need not wait long before the line."""
        unpaced_is_short = self._seconds_a_byte > 0 or len(self._sent) < 4096
        return self._free_s - now_s <= AHEAD_S and unpaced_is_short

    def idle_s(self, now_s: float) -> float:
        """How long nothing will change by itself, at most :data:`LOOK_S`."""
        until = [LOOK_S]
        if self._sent:
            until.append(self._sent[0][0] - now_s)
        if self._free_s - now_s > AHEAD_S:
            until.append(self._free_s - AHEAD_S - now_s)
        return max(0.0, min(until))


class Relay:
    """Stands between clients and the server at ``target``. A context manager.

    Args:
        bits_per_s: in each direction; None: no limit.
        delay_ms: one way; a round trip takes twice as long.
    """

    def __init__(
        self, target: str | Address, bits_per_s: float | None = None, delay_ms: float = 0.0
    ) -> None:
        self._target = parse_address(target) if isinstance(target, str) else target
        self._bits_per_s, self._delay_s = bits_per_s, delay_ms / 1e3
        self._state = State.PASSES
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.address: Address = TcpAddress(*self._listening.getsockname())
        self._start(self._accept)

    def cut(self) -> None:
        """End every connection at once, as if a machine had been switched off and on again."""
        self._state = State.CUT
        for pair in self._now():
            self._end(pair)

    def stall(self) -> None:
        """Let nothing pass in either direction, until :meth:`resume`."""
        self._state = State.STALLED

    def half_open(self) -> None:
        """The server's side ends; the client's stays open, and all that comes there is lost."""
        self._state = State.HALF_OPEN
        for pair in self._now():
            self._end(pair)

    def resume(self) -> None:
        """Let pass again, what was held first; connections that were cut stay so."""
        self._state = State.PASSES

    def close(self) -> None:
        """End all connections and threads. May be called again."""
        self._state = State.CUT
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listening.close()
        for pair in self._now():
            for each in pair:
                each.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _now(self) -> list[tuple[socket.socket, socket.socket]]:
        with self._lock:
            return list(self._pairs)

    def _start(self, does: object, *arguments: object) -> None:
        thread = threading.Thread(target=does, args=arguments, name="remora-relay", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # closed
            try:
                server = _connected(self._target)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            self._end((client, server))
            self._start(self._carry, client, server)
            self._start(self._carry, server, client)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """End the sides that have no connection in this state; one that comes then has none."""
        client, server = pair
        if self._state is State.CUT:
            _reset(client)
        if self._state in (State.CUT, State.HALF_OPEN):
            _reset(server)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        line, is_open = Line(self._bits_per_s, self._delay_s), True
        with contextlib.suppress(OSError, ValueError):  # one of them was ended: the line goes too
            while self._state is not State.CUT:
                if self._state is State.STALLED:
                    time.sleep(LOOK_S)
                    continue
                now_s = time.perf_counter()
                for data in line.arrived(now_s):
                    if not self._pass_on(data, target):
                        return
                reads = [source] if is_open and line.takes_more(now_s) else []
                if select.select(reads, [], [], line.idle_s(now_s))[0]:
                    data = source.recv(line.piece_bytes)
                    is_open = bool(data)
                    line.send(data, time.perf_counter())

    def _pass_on(self, data: bytes, target: socket.socket) -> bool:
        """False after the end has been passed on."""
        if self._state is State.HALF_OPEN:
            return True
        if not data:
            target.shutdown(socket.SHUT_WR)
            return False
        target.sendall(data)
        return True


def _connected(target: Address) -> socket.socket:
    """A connection to ``target`` that holds little before the line."""
    if not isinstance(target, TcpAddress):
        sock = open_socket(target, 5.0)
    else:
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            sock.settimeout(5.0)
            sock.connect((target.host, target.port))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    return sock


def _reset(sock: socket.socket) -> None:
    """End ``sock`` without a farewell: what was on its way is lost."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
