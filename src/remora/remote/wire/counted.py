"""What has crossed a link, counted where the socket takes and gives it."""

from __future__ import annotations

import msgspec


class Counted(msgspec.Struct, frozen=True):
    """One link's traffic until now, seen from one end.

    Bytes are what the socket's own calls returned (with TLS: before encryption). What went through
    shared memory is counted apart: it crossed no wire.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    shared_bytes_sent: int = 0
    shared_bytes_received: int = 0


class Traffic:
    """One direction of one link; changed by the one thread whose turn it is."""

    def __init__(self) -> None:
        self.bytes = self.frames = self.messages = self.shared_bytes = 0
