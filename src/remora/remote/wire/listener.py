"""Where clients come in: one thread accepts, and each client has a thread of its own."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.core.errors import BadValue, RemoteError
from remora.remote.wire.address import Address, TcpAddress, UnixAddress, parse_address
from remora.remote.wire.handshake import PROTOCOL, SMALL, Hello, Welcome, answer
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link, Patience
from remora.remote.wire.pool import Pool
from remora.remote.wire.tensors import Allocate
from remora.remote.wire.tls import wrapped

DEFAULT_ADDRESS = "tcp://127.0.0.1:7717"
BACKLOG = 128
PAUSE_S = 0.05
STRANGERS = 32
"""Connections beyond the most, whose clients are told that the server is full."""


@dataclass(frozen=True)
class Certificate:
    """What a server proves itself with: two PEM files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """TLS for a server. ``BadValue`` where the files are not what they should be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise BadValue(
                f"the certificate {self.certificate} with the key {self.key} cannot be used: "
                f"{error.strerror or error}; give two PEM files that belong together"
            ) from None
        return context


class Listener:
    """Accepts clients until it is closed.

    Args:
        address: where; port 0 takes any that is free (:attr:`address` says which).
        requests: the type of the messages that clients send: a union of tagged structs.
        serve: called with each client's link, in a thread of its own, after the handshake. The link
            is closed when it returns. ``RemoteError`` from it ends that connection only.
        token: what a client must know; empty: nothing.
        certificate: clients must come by TLS.
        most_clients: at a time; more are refused.
        share: use shared memory with clients of this machine.
        handshake_s: who has not said hello by then is dropped.
        troubled: told in words of each connection that ended otherwise than by its client.
        enters: the last to be asked before a client comes in; says why it may not, if so.
        leaves: told of the end of every connection, whether its client came in or not.

    Raises:
        BadValue: the address is none, is in use, or is open to others without a token.
    """

    def __init__(
        self,
        address: str | Address,
        requests: Any,
        serve: Callable[[Link], object],
        *,
        name: str = "remora",
        token: str = "",
        certificate: Certificate | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        most_clients: int = 256,
        share: bool = True,
        handshake_s: float = 5.0,
        troubled: Callable[[str], object] = lambda words: None,
        allocate: Allocate | None = None,
        enters: Callable[[Link, Hello], str | None] = lambda link, hello: None,
        leaves: Callable[[Link], object] = lambda link: None,
    ) -> None:
        where = parse_address(address) if isinstance(address, str) else address
        if not where.is_loopback and not token:
            raise BadValue(
                f"{where} is open to other machines, and there is no token; "
                f"give one, or listen on loopback: {DEFAULT_ADDRESS}"
            )
        self._requests, self._serve, self._token = requests, serve, token
        self._tls = certificate.context() if certificate is not None else None
        self._welcome = Welcome(PROTOCOL, name, limits or Limits())
        self._patience, self._most, self._handshake_s = patience, most_clients, handshake_s
        self._share = share and where.is_loopback
        self._troubled, self._allocate = troubled, allocate or Pool()
        self._enters, self._leaves = enters, leaves
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, Link | None] = {}
        self._closed = False
        self._socket, self.address = _bound(where)
        self._acceptor = threading.Thread(target=self._accept, name="remora-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Take no more clients, and end the connections of those that are there."""
        self._closed = True
        _shut_listening(self._socket)
        self._acceptor.join()
        self._socket.close()
        with self._lock:
            threads = dict(self._threads)
        for link in threads.values():
            if link is not None:
                link.close()
        for thread in threads:
            thread.join(self._handshake_s)
        if isinstance(self.address, UnixAddress):
            self.address.path.unlink(missing_ok=True)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._socket.accept()
            except OSError as error:
                if self._closed or error.errno in (errno.EBADF, errno.EINVAL):
                    return
                self._troubled(f"a connection could not be taken: {error.strerror or error}")
                time.sleep(PAUSE_S)  # until some other has ended, if there are too many
                continue
            with self._lock:
                is_full = self._closed or len(self._threads) >= self._most + STRANGERS
                if not is_full:
                    thread = threading.Thread(target=self._connected, args=(sock,), daemon=True)
                    self._threads[thread] = None
                    thread.start()
            if is_full:
                sock.close()

    def _connected(self, sock: socket.socket) -> None:
        try:
            self._welcomed(sock)
        except (RemoteError, OSError) as error:
            if not self._closed:
                self._troubled(str(error))
        finally:
            with self._lock:
                del self._threads[threading.current_thread()]

    def _welcomed(self, sock: socket.socket) -> None:
        if self._tls is not None:
            sock = wrapped(self._tls, sock, self._handshake_s)
        link = Link(sock, Hello, limits=SMALL, patience=self._patience, allocate=self._allocate)
        try:
            with self._lock:
                self._threads[threading.current_thread()] = link
                count = len(self._threads)
            full = f"it has {self._most} clients already; try again later"
            answer(
                link, self._welcome, self._requests, self._token, self._handshake_s,
                full if count > self._most else None, self._share,
                lambda hello: self._enters(link, hello),
            )  # fmt: skip
            self._serve(link)
        finally:
            self._leaves(link)
            link.close()


def _bound(address: Address) -> tuple[socket.socket, Address]:
    """A listening socket, and its address with the port that it got."""
    family = socket.AF_UNIX
    if isinstance(address, TcpAddress):
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if isinstance(address, TcpAddress):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
            address = TcpAddress(address.host, sock.getsockname()[1])
        else:
            _bind_path(sock, address.path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BadValue(_cannot_listen(address, error)) from None
    return sock, address


def _bind_path(sock: socket.socket, path: Path) -> None:
    """Bind to ``path``, also where a server that is gone has left its socket."""
    if path.is_socket() and not _answers(path):
        path.unlink()
    sock.bind(str(path))
    path.chmod(0o600)  # its permissions are the only guard of a Unix socket without a token


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0


def _cannot_listen(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = "port (0 takes any that is free)" if isinstance(address, TcpAddress) else "path"
        return f"{address} is in use by another server; stop that one or choose another {other}"
    return f"cannot listen on {address}: {error.strerror or error}; {_advice(address)}"


def _advice(address: Address) -> str:
    if isinstance(address, UnixAddress):
        return "choose a path in a folder that is there and that you may write to"
    return f"choose an address of this machine, such as {DEFAULT_ADDRESS}"


def _shut_listening(sock: socket.socket) -> None:
    """Wake the thread that accepts."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # not on every platform; closing it does the same there
