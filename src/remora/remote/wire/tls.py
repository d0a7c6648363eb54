"""A socket with TLS. One lock for both directions: OpenSSL's state is shared by them."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from remora.core.errors import BadValue
from remora.remote.wire.transport import Views, keep_little_unsent, poll, shut, unacknowledged

RECORD_BYTES = 16 * 2**10
"""The most that one TLS record holds, and what is written at once."""


def trusting(certificate: Path | str | None) -> ssl.SSLContext | None:
    """TLS for a client that trusts the PEM file ``certificate``; None without one.

    Raises:
        BadValue: it cannot be read.
    """
    if certificate is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(certificate))
    except OSError as error:
        raise BadValue(f"the certificate {certificate} cannot be read: {error}") from error


def wrapped(
    context: ssl.SSLContext, sock: socket.socket, timeout_s: float, *, host: str | None = None
) -> ssl.SSLSocket:
    """``sock`` after the handshake of TLS, all of it within ``timeout_s``.

    Args:
        host: what the server's certificate must be for; None: this end is the server.

    Raises:
        OSError: the handshake failed, or took longer. The socket is closed.
    """
    end_s = time.monotonic() + timeout_s
    try:
        secure = context.wrap_socket(
            sock, server_side=host is None, server_hostname=host, do_handshake_on_connect=False
        )
    except BaseException:
        sock.close()
        raise
    try:
        secure.setblocking(False)
        while not _handshaken(secure, end_s - time.monotonic()):
            pass
    except BaseException:
        secure.close()
        raise
    return secure


def _handshaken(sock: ssl.SSLSocket, left_s: float) -> bool:
    """Go on with the handshake; False when it is to be gone on with."""
    if left_s <= 0:
        raise TimeoutError(errno.ETIMEDOUT, "the handshake of TLS took too long")
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        poll(sock, left_s * 1e3, reading=True, writing=False)
        return False
    except ssl.SSLWantWriteError:
        poll(sock, left_s * 1e3, reading=False, writing=True)
        return False
    return True


class TlsTransport:
    """As :class:`PlainTransport`, encrypted. Bytes are counted before encryption."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)
        keep_little_unsent(sock)
        self._socket = sock
        self._lock = threading.Lock()
        self._read_waits_to_write = self._write_waits_to_read = False
        """A change of keys needs the other direction."""

    def read_into(self, views: Sequence[memoryview]) -> int | None:
        count = 0
        for view in views:
            while view.nbytes:
                got = self._read(view)
                if not got:
                    return count or got
                count += got
                view = view[got:]
        return count

    def write(self, views: Views) -> int | None:
        count = 0
        for each in views:
            view = memoryview(each)
            while view.nbytes:
                took = self._write(view[:RECORD_BYTES])
                if took is None:
                    return count or None
                count += took
                view = view[took:]
        return count

    def wait(self, timeout_s: float, *, reading: bool, writing: bool) -> bool:
        with self._lock:
            if self._socket.fileno() < 0 or (reading and self._socket.pending()):
                return True
        events = 0
        if reading:
            events |= select.POLLOUT if self._read_waits_to_write else select.POLLIN
        if writing:
            events |= select.POLLIN if self._write_waits_to_read else select.POLLOUT
        poller = select.poll()
        poller.register(self._socket, events)
        return bool(poller.poll(max(0.0, timeout_s * 1e3)))

    def unacknowledged(self) -> int:
        return unacknowledged(self._socket)

    def shut(self) -> None:
        shut(self._socket)

    def close(self) -> None:
        with self._lock:
            self._socket.close()

    def _read(self, view: memoryview) -> int | None:
        with self._lock:
            self._read_waits_to_write = False
            try:
                return self._socket.recv_into(view)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                self._read_waits_to_write = True
                return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0

    def _write(self, view: memoryview) -> int | None:
        with self._lock:
            self._write_waits_to_read = False
            try:
                return self._socket.send(view)
            except ssl.SSLWantWriteError:
                return None
            except ssl.SSLWantReadError:
                self._write_waits_to_read = True
                return None
