"""Bytes at this process's TCP sockets, as the kernel counts them, whichever library opened them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from remora.systems.elsewhere import Crossed

_OPEN_FILES = Path("/proc/self/fd")
_COUNTERS = struct.Struct("=QQ")
_OFFSET, _ENOUGH = 120, 136
"""Of ``tcpi_bytes_acked`` and ``tcpi_bytes_received`` within ``struct tcp_info`` (linux/tcp.h)."""


class SocketBytes:
    """Counts every TCP connection that this process has, but for those it had before.

    A connection that ended keeps what was last seen of it.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Crossed] = {}
        self._others = {name for name, _ in _connections()}

    def __call__(self) -> Crossed | None:
        """All of them together; None where this system cannot tell."""
        if not hasattr(socket, "TCP_INFO") or not _OPEN_FILES.is_dir():
            return None
        for name, crossed in _connections():
            if crossed is None:
                return None
            if name not in self._others:
                self._seen[name] = crossed
        return Crossed(
            sum(each.sent for each in self._seen.values()),
            sum(each.received for each in self._seen.values()),
        )


def _connections() -> Iterator[tuple[str, Crossed | None]]:
    """Each connected TCP socket by the kernel's name for it, with its counters."""
    if not _OPEN_FILES.is_dir():
        return
    for link in _OPEN_FILES.iterdir():
        try:
            name = str(link.readlink())
            if name.startswith("socket:"):
                copy = socket.socket(fileno=os.dup(int(link.name)))
                with copy:
                    if _is_connected(copy):
                        yield name, _counters(copy)
        except OSError:  # closed meanwhile, or no socket of a kind that has a peer
            continue


def _is_connected(connection: socket.socket) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return connection.type == socket.SOCK_STREAM and bool(connection.getpeername())


def _counters(connection: socket.socket) -> Crossed | None:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _ENOUGH:
        return None
    return Crossed(*_COUNTERS.unpack_from(info, _OFFSET))
