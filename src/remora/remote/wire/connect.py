"""The client's way to a server: a socket, TLS where asked for, and the handshake."""

from __future__ import annotations

import ssl
from typing import Any

from remora.core.clock import Clock
from remora.core.errors import ServerLost
from remora.remote.wire.address import Address, TcpAddress, open_socket, parse_address
from remora.remote.wire.handshake import (
    PROTOCOL,
    SMALL,
    Hello,
    Refusal,
    Welcome,
    arena_or_none,
    greet,
)
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link, Patience
from remora.remote.wire.tensors import Allocate
from remora.remote.wire.tls import wrapped


def connect(
    address: str | Address,
    replies: Any,
    *,
    client: str = "remora",
    token: str = "",
    limits: Limits | None = None,
    patience: Patience | None = None,
    timeout_s: float = 5.0,
    tls: ssl.SSLContext | None = None,
    clock: Clock | None = None,
    allocate: Allocate | None = None,
    share: bool = True,
    protocol: int = PROTOCOL,
    priority: str = "",
) -> Link:
    """A link to the server at ``address``, after the handshake.

    Args:
        replies: the type of the messages that the server sends: a union of tagged structs.
        client: this client's name, for the server's log.
        limits: what is accepted from the server.
        timeout_s: for each of connecting and the handshake.
        share: use shared memory with a server of this machine. Off where what crosses the socket
            is to be measured or shaped.
        tls: how the server is verified, for one that has a certificate.
        priority: the class of what this client asks for, where the server tells classes apart.

    Raises:
        BadValue: ``address`` is none.
        ServerLost: nobody answers there, or not as a server of ours.
        Refused: the server does not take this client.
    """
    where = parse_address(address) if isinstance(address, str) else address
    name = f"the server at {where}"
    limits = limits or Limits()
    try:
        sock = open_socket(where, timeout_s)
        if tls is not None:
            host = where.host if isinstance(where, TcpAddress) else "localhost"
            sock = wrapped(tls, sock, timeout_s, host=host)
    except OSError as error:
        raise ServerLost(
            f"{name} cannot be reached: {error.strerror or error}; is it running there?"
        ) from None
    link = Link(
        sock, Welcome | Refusal, limits=SMALL, patience=patience, clock=clock, allocate=allocate
    )
    arena = arena_or_none() if share and where.is_loopback else None
    if arena is not None:
        link.offer(arena)
    seen = arena.seen if arena is not None else None
    hello = Hello(protocol, client, limits, token, seen, link.own_end, priority)
    try:
        greet(link, hello, replies, timeout_s, name)
    except BaseException:
        link.close()
        raise
    return link
