"""The first messages of a connection: who is there, and whether it may come in."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import msgspec

from remora.core.errors import LinkLost, Refused, ServerLost
from remora.remote.wire.limits import Limits
from remora.remote.wire.link import Link
from remora.remote.wire.shared import Arena, ArenaSeen

PROTOCOL = 1
"""Of all that is said over a link. Both ends must speak the same."""
SMALL = Limits(head_bytes=4096, tensors=0, dimensions=0, tensor_bytes=0, message_bytes=0,
               in_flight_bytes=0)  # fmt: skip
"""What is accepted from who has not said who it is."""
REQUEST = 0
"""The request that a handshake goes by."""


class Hello(
    msgspec.Struct, frozen=True, tag="hello", forbid_unknown_fields=True, omit_defaults=True
):
    """The client's first message. What it does not say is not sent, so servers from before a field
    was added take clients that do not need it.
    """

    protocol: int
    client: str
    """Its name, for the server's log."""
    limits: Limits
    """What the client accepts."""
    token: str = ""
    arena: ArenaSeen | None = None
    """Shared memory that the client will send through, if the server finds it."""
    end: str = ""
    """The client's end of the connection, as it knows it."""
    priority: str = ""
    """The class of its work, where it says one: what that means is the server's affair."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome", forbid_unknown_fields=True):
    """The server's answer to a client that may come in."""

    protocol: int
    server: str
    limits: Limits
    """What the server accepts."""
    arena: ArenaSeen | None = None
    """Shared memory that the server will send through, if the client finds it."""


class Refusal(msgspec.Struct, frozen=True, tag="refusal", forbid_unknown_fields=True):
    """The server's answer to a client that may not."""

    reason: str


def greet(link: Link, hello: Hello, replies: Any, timeout_s: float, name: str) -> None:
    """Say ``hello``, and receive messages of the union ``replies`` from here on.

    Args:
        link: made for ``Welcome | Refusal`` within :data:`SMALL`.
        name: the server, as errors call it.

    Raises:
        Refused: the server does not take this client, and says why.
        ServerLost: it ends the connection or says nothing.
    """
    try:
        link.send(REQUEST, hello)
        arrived = link.receive_within(timeout_s)
    except LinkLost as error:
        of_age = " of a version that knows priorities" if hello.priority else ""
        raise ServerLost(
            f"{name} ended the handshake: {error}; is it a Remora server{of_age}?"
        ) from error
    if arrived is None:
        raise ServerLost(f"{name} did not answer within {timeout_s:g} s; is it a Remora server?")
    said = arrived.message
    if isinstance(said, Refusal):
        raise Refused(f"{name} refuses this client: {said.reason}")
    if not isinstance(said, Welcome):
        raise ServerLost(f"{name} gave up during the handshake")
    if hello.arena is not None and said.arena is not None:
        link.map(said.arena, lends=True)
    link.adopt(replies, limits=hello.limits, sending=said.limits, peer=said.server)


def answer(
    link: Link,
    welcome: Welcome,
    requests: Any,
    token: str,
    timeout_s: float,
    full: str | None,
    share: bool,
    against: Callable[[Hello], str | None] = lambda hello: None,
) -> None:
    """Hear a client's hello and let it in, or say why not.

    Args:
        link: made for ``Hello`` within :data:`SMALL`.
        token: what the client must know; empty: nothing.
        full: why no more clients are taken, if so.
        share: shared memory is used with clients of this machine that offer it.
        against: what else there is against a client that says so, if anything.

    Raises:
        Refused: the client may not come in; it has been told.
        LinkLost: it sent something else, or nothing.
    """
    arrived = link.receive_within(timeout_s)
    if arrived is None or not isinstance(arrived.message, Hello):
        raise LinkLost(f"a client said no hello within {timeout_s:g} s")
    hello = arrived.message
    reason = _reason_against(hello, welcome, token) or full or against(hello)
    if reason is not None:
        link.send(REQUEST, Refusal(reason))
        raise Refused(f"client {hello.client[:80]!r} was refused: {reason}")
    # Where something stands between, the server sees another end, and what passes it is meant to.
    theirs = hello.arena if share and hello.end == link.other_end else None
    arena = arena_or_none() if theirs is not None else None
    if arena is not None:
        link.offer(arena)
        welcome = msgspec.structs.replace(welcome, arena=arena.seen)
    if theirs is not None:
        link.map(theirs, lends=False)  # told before the welcome: all that follows may use it
    link.send(REQUEST, welcome)
    link.adopt(requests, limits=welcome.limits, sending=hello.limits, peer=hello.client)


def arena_or_none() -> Arena | None:
    """An arena to offer, where the system has such memory."""
    try:
        return Arena()
    except OSError:
        return None


def _reason_against(hello: Hello, welcome: Welcome, token: str) -> str | None:
    if hello.protocol != welcome.protocol:
        return (
            f"it speaks protocol {welcome.protocol}, the client {hello.protocol}; "
            "install the same version of Remora on both"
        )
    if token and not hmac.compare_digest(hello.token.encode(), token.encode()):
        return "the token is missing or wrong; pass the one that the server was started with"
    return None
