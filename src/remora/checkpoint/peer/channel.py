"""Frames over a TCP connection: straight from memory, and straight into it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable

from remora.checkpoint.peer.frames import (
    PREFIX,
    AnyMessage,
    Prefix,
    ProtocolError,
    check_payload,
    encode,
    parse_message,
    parse_prefix,
)
from remora.core.errors import BadValue

TIMEOUT_S = 30.0
"""Without one byte for so long, the other side is taken for dead."""
_LAST_WORDS_S = 1.0
_LAST_WORDS_BYTES = 2**26
_NONE = memoryview(b"")

Place = Callable[[AnyMessage, int], memoryview]
"""Where the payload of a message, of so many bytes, is to go."""


class Channel:
    """One connection. Not for several threads at once."""

    def __init__(self, connection: socket.socket, timeout_s: float = TIMEOUT_S) -> None:
        connection.settimeout(timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection

    def send(self, message: AnyMessage, payload: memoryview = _NONE) -> None:
        """Send one frame.

        Raises:
            OSError: the connection broke, or nothing was taken for the timeout.
        """
        waiting = [memoryview(encode(message, payload)), payload]
        if isinstance(self._socket, ssl.SSLSocket):  # has no sendmsg
            for each in waiting:
                self._socket.sendall(each)
            return
        while waiting:
            sent = self._socket.sendmsg(waiting)
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if waiting:
                waiting[0] = waiting[0][sent:]

    def receive(self, place: Place | None = None) -> AnyMessage:
        """The next message. ``place`` says where its payload goes; without it, none may come.

        Raises:
            ProtocolError: what comes is not a frame, or does not check.
            OSError: the connection broke, or nothing came for the timeout.
        """
        prefix = parse_prefix(self._exactly(PREFIX.size))
        message = parse_message(prefix, self._exactly(prefix.header_bytes))
        self._payload(prefix, message, place)
        return message

    def _payload(self, prefix: Prefix, message: AnyMessage, place: Place | None) -> None:
        if place is None:
            if prefix.payload_bytes:
                raise ProtocolError("data came where none was due")
            return
        room = place(message, prefix.payload_bytes)
        if len(room) != prefix.payload_bytes:
            raise ProtocolError(f"{prefix.payload_bytes} bytes came where {len(room)} were due")
        self._fill(room)
        check_payload(prefix, room)

    def _exactly(self, count: int) -> bytes:
        room = bytearray(count)
        self._fill(memoryview(room))
        return bytes(room)

    def _fill(self, room: memoryview) -> None:
        while len(room):
            count = self._socket.recv_into(room)
            if count == 0:
                raise ConnectionResetError("the other side closed the connection")
            room = room[count:]

    def end_with(self, message: AnyMessage) -> None:
        """Send the last message. What the other side has sent meanwhile is read and dropped:
        closing over it would take the message away from under its eyes.

        Raises:
            OSError: the connection broke.
        """
        self.send(message)
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(_LAST_WORDS_S)
        room = bytearray(2**16)
        for _ in range(_LAST_WORDS_BYTES // len(room)):
            if not self._socket.recv_into(room):
                return

    def close(self) -> None:
        """Calling it twice does no harm; a thread that waits in it is let go."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def parse_address(text: str) -> tuple[str, int]:
    """Host and port from ``127.0.0.1:7718`` or ``[::1]:7718``.

    Raises:
        BadValue: it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BadValue(f"{text!r} is no address; write host:port, such as 127.0.0.1:7718")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine can reach ``host``. Names other than localhost are
    not trusted to be what they seem."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
