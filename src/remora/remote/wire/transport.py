"""A connected socket that never blocks inside a call: read what is there, write what fits.

One thread reads while another writes. Waiting is apart, so that a writer can also wait for
something to read, and every wait has an end.
"""

from __future__ import annotations

import array
import fcntl
import select
import socket
import termios
from collections.abc import Sequence
from typing import Protocol

Views = Sequence[memoryview | bytes]
UNSENT_BYTES = 256 * 2**10
"""Bytes that the kernel holds unsent; what is urgent waits for no more than these."""


class Transport(Protocol):
    """What a link needs of a socket. ``OSError`` where the connection has failed."""

    def read_into(self, views: Sequence[memoryview]) -> int | None:
        """Bytes read into ``views``, front to back; 0 at the end; None: nothing is there yet."""
        ...

    def write(self, views: Views) -> int | None:
        """Bytes of ``views`` that were taken; None: nothing fits yet."""
        ...

    def wait(self, timeout_s: float, *, reading: bool, writing: bool) -> bool:
        """Wait until one of what is asked for may go on; False when the time is over."""
        ...

    def unacknowledged(self) -> int:
        """Bytes written that the other end's machine has not acknowledged; 0 where not known."""
        ...

    def shut(self) -> None:
        """End both directions; who waits is woken."""
        ...

    def close(self) -> None: ...


class PlainTransport:
    """TCP or a Unix socket, without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._to_read = select.poll()  # one thread reads at a time, so it is polled by one
        self._to_read.register(sock, select.POLLIN)
        keep_little_unsent(sock)

    def read_into(self, views: Sequence[memoryview]) -> int | None:
        try:
            if len(views) == 1:
                return self._socket.recv_into(views[0])
            return self._socket.recvmsg_into(list(views))[0]
        except (BlockingIOError, InterruptedError):
            return None

    def write(self, views: Views) -> int | None:
        try:
            if len(views) == 1:
                return self._socket.send(views[0])
            return self._socket.sendmsg(views)
        except (BlockingIOError, InterruptedError):
            return None

    def wait(self, timeout_s: float, *, reading: bool, writing: bool) -> bool:
        milliseconds = max(0.0, timeout_s * 1e3)
        if reading and not writing:
            return bool(self._to_read.poll(milliseconds))
        return poll(self._socket, milliseconds, reading=reading, writing=writing)

    def unacknowledged(self) -> int:
        return unacknowledged(self._socket)

    def shut(self) -> None:
        shut(self._socket)

    def close(self) -> None:
        self._socket.close()


def keep_little_unsent(sock: socket.socket) -> None:
    """Send small messages at once, and hold few bytes that later ones must wait for."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def poll(sock: socket.socket, milliseconds: float, *, reading: bool, writing: bool) -> bool:
    """Whether ``sock`` may be read or written, as asked, within the time."""
    poller = select.poll()
    poller.register(sock, select.POLLIN * reading | select.POLLOUT * writing)
    return bool(poller.poll(milliseconds))


def unacknowledged(sock: socket.socket) -> int:
    """Bytes written to ``sock`` that have not been acknowledged; 0 where not known."""
    answer = array.array("i", [0])
    try:
        fcntl.ioctl(sock, termios.TIOCOUTQ, answer)
    except OSError:
        return 0
    return answer[0]


def shut(sock: socket.socket) -> None:
    """End both directions of ``sock``, whatever state it is in."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other end was first
