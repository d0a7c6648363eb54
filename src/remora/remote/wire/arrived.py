"""What a link hands over: a message that arrived whole, and what became of one that was sent."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import torch


class Cancelled(msgspec.Struct, frozen=True):
    """Arrives in place of a message: the other end wants, and sends, no more of the request."""


class Arrived(NamedTuple):
    """One message and its tensors.

    ``begun_ns`` is when its first header had been read, ``ended_ns`` when its last byte had;
    both on the link's clock. The tensors belong to who receives them.
    """

    request: int
    message: Any
    """One of the union's structs, or :class:`Cancelled`."""
    tensors: list[torch.Tensor]
    begun_ns: int
    ended_ns: int
    wire_bytes: int
    """Headers, head and body as they crossed the socket."""
    shared_bytes: int
    """Bytes of tensors that came through shared memory."""


class Sent(NamedTuple):
    """What sending one message came to."""

    whole: bool
    """False: the request was cancelled before all of it had been sent."""
    begun_ns: int
    encoded_ns: int
    """When it had been encoded and was ready to be written."""
    ended_ns: int
    """When the socket had taken the last byte."""
    wire_bytes: int
    shared_bytes: int
