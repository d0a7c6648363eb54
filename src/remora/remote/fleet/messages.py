"""What a fleet's directory, its servers and its clients say to each other. No tensors."""

from __future__ import annotations

import msgspec

from remora.remote.messages import Done, Failed, Message
from remora.remote.wire.limits import Limits

PEER = "remora fleet"
"""What a directory calls itself in the handshake, so that nobody takes it for a server."""
LIMITS = Limits(head_bytes=64 * 2**10, tensors=0, dimensions=0, tensor_bytes=0, message_bytes=0,
                in_flight_bytes=0)  # fmt: skip
"""What a directory accepts."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A server as clients need to know it."""

    name: str
    """It keeps it when it is started again; keys belong to names."""
    address: str
    born: int
    """Larger each time that it is started again."""
    drains: bool = False
    """Whether it takes no sessions and calls but of those who have sessions there."""


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """A server as ``remora fleet status`` shows it."""

    name: str
    state: str
    """``serving``; ``silent``, with ``why``; ``absent``: it has not come yet; ``draining``: it
    takes no new sessions; ``drained``: it is left out, as those that it had are gone."""
    address: str = ""
    device: str = ""
    pid: int = 0
    starts: int = 0
    """How often it has come to the directory as a new process."""
    why: str = ""
    counts: dict[str, int] = {}
    """What it holds, as :class:`remora.remote.messages.Counts`."""


# ------------------------------------------------- what is asked


class Join(Message, frozen=True, tag=65):
    """A server says where it is. → :class:`Joined`; it stays for as long as the connection does."""

    name: str
    address: str
    secret: str
    """Known to those servers only that the fleet has started."""
    device: str = ""
    pid: int = 0


class Watch(Message, frozen=True, tag=66):
    """Which servers are there? → :class:`View`, now and whenever that changes."""


class Ask(Message, frozen=True, tag=67):
    """How is each server? → :class:`Report`."""


class End(Message, frozen=True, tag=68):
    """End the fleet, servers and all. → :class:`Done`."""


class Drain(Message, frozen=True, tag=69):
    """Send nobody new to a server, and nobody at all when its sessions have ended, or ``within_s``
    is over. Started again, it serves again. → :class:`Done`.
    """

    name: str
    within_s: float


# ------------------------------------------------- what is answered


class Joined(Message, frozen=True, tag=97):
    """The server is known. No more is said until one of the two is gone."""


class View(Message, frozen=True, tag=98):
    """The servers that serve now."""

    members: tuple[Member, ...]


class Report(Message, frozen=True, tag=99):
    """Every server, by name."""

    servers: tuple[Standing, ...]


Question = Join | Watch | Ask | End | Drain
Answer = Joined | View | Report | Done | Failed


def is_last(answer: Answer) -> bool:
    """Whether no more will come of what was asked."""
    return not isinstance(answer, Joined | View)
