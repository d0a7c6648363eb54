"""What a link hands over: a message that arrived whole, and what became of one that was sent."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import torch

from remora.core.units import format_bytes


class Cancelled(msgspec.Struct, frozen=True):
    """Arrives in place of a message: the other end wants, and sends, no more of the request."""


class NoMemory(msgspec.Struct, frozen=True):
    """Arrives in place of a message that came with tensors for which this end has no memory."""

    message: Any
    wanted_bytes: int
    """Of those tensors."""
    free_bytes: int

    def at(self, where: str) -> str:
        """In words; ``where`` it is."""
        return (
            f"there is no memory {where} for {format_bytes(self.wanted_bytes)} of tensors: "
            f"{format_bytes(self.free_bytes)} is free; send less, or use a machine with more"
        )


class Arrived(NamedTuple):
    """One message and its tensors.

    ``begun_ns`` is when its first header had been read, ``ended_ns`` when its last byte had;
    both on the link's clock. The tensors belong to who receives them.
    """

    request: int
    message: Any
    """One of the union's structs, :class:`Cancelled`, or :class:`NoMemory`."""
    tensors: list[torch.Tensor]
    """Those for which there was no memory lie on the device ``meta``."""
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
