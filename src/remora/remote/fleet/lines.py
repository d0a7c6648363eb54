"""A client's connections to the servers of a fleet: one to each that it needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from remora.core.errors import Full, LinkLost, Refused, ServerLost
from remora.remote.fleet.messages import Member
from remora.remote.wire.channel import Channel
from remora.remote.wire.counted import Counted

DOUBT_S = 1.0
"""For so long a server that could not be reached is not tried again: whoever waits for the attempt
of another would else make the same, one after another."""

Preference = Callable[[Mapping[str, "Line"]], Sequence["Line"]]
"""Puts lines, by name, in the order in which they are to be tried."""


class Line:
    """The connection to one process of one server, made when it is first needed. Thread-safe."""

    def __init__(self, member: Member, dial: Callable[[str], Channel]) -> None:
        self.member, self._dial = member, dial
        self._channel: Channel | None = None
        self._failed: tuple[float, ServerLost | Refused] | None = None
        self._closed = False
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        """The server's."""
        return self.member.name

    @property
    def open(self) -> Channel | None:
        """The connection, if there is one now."""
        channel = self._channel
        return None if channel is None or channel.ended else channel

    @property
    def outstanding(self) -> int:
        """Requests of this client that the server has not answered."""
        channel = self.open
        return 0 if channel is None else channel.outstanding

    def channel(self) -> Channel:
        """A connection that is there as far as one can tell.

        Raises:
            ServerLost: the server cannot be reached, or has left the fleet.
            Refused: it does not take this client.
        """
        with self._guard:
            if (channel := self.open) is None:
                channel = self._channel = self._dialled()
            return channel

    def close(self) -> None:
        """End the connection; whoever waits for an answer gets ``ServerLost``."""
        self._closed = True  # without the guard: another thread may be dialling for seconds
        channel = self._channel
        if channel is not None:
            channel.close()

    def _dialled(self) -> Channel:
        if self._failed is not None and time.monotonic() - self._failed[0] < DOUBT_S:
            failed = self._failed[1]
            raise type(failed)(*failed.args)  # anew: each thread adds its own traceback
        try:
            channel = self._dial(self.member.address)
        except (ServerLost, Refused) as error:
            self._failed = time.monotonic(), error
            raise
        if self._closed:
            channel.close()
            raise ServerLost(f"{self.name} at {self.member.address} has left the fleet")
        return channel


class Lines:
    """The lines to all servers that there are. Thread-safe."""

    def __init__(self, dial: Callable[[str], Channel]) -> None:
        self._dial = dial
        self._lines: Mapping[str, Line] = {}
        """By name. Never changed, only replaced: who reads it needs no guard."""
        self._closed = False
        self._guard = threading.Lock()

    def follow(self, members: Sequence[Member]) -> None:
        """These are the servers from now on; connections to others are ended."""
        with self._guard:
            if self._closed:
                return
            kept = {_process(line.member): line for line in self._lines.values()}
            lines = dict[str, Line]()
            for member in members:
                known = _process(member) in kept
                line = kept.pop(_process(member)) if known else Line(member, self._dial)
                line.member = member
                lines[member.name] = line
            self._lines = lines
        for gone in kept.values():
            gone.close()

    def reach(self, preference: Preference) -> Channel:
        """A connection to the first that can be reached, in the order of ``preference``.

        Raises:
            ServerLost: there is none.
            Refused: all are there, and none takes this client.
            LinkLost: this was closed.
        """
        if self._closed:
            raise LinkLost("the connection to the fleet was closed here")
        lost, refused = list[ServerLost](), list[Refused]()
        for line in preference(self._taking):
            try:
                return line.channel()
            except ServerLost as error:
                lost.append(error)
            except Refused as error:
                refused.append(error)
        none = (
            "every server of this fleet drains" if self._lines else "the fleet has no servers yet"
        )
        raise [*lost, *refused, ServerLost(none)][0]

    def reach_beside(self, full: Mapping[str, Full], preference: Preference) -> Channel:
        """A connection to the first that is not ``full``, by the names of the connections.

        Raises:
            Full: all are, or cannot be reached; says what each has said.
        """
        said = []
        for line in (lines := preference(self._taking)):
            try:
                channel = line.channel()
            except (ServerLost, Refused) as error:
                said.append(f"{line.name}: {error}")
                continue
            if channel.name not in full:
                return channel
            said.append(f"{line.name}: {full[channel.name]}")
        raise Full(f"all {len(lines)} servers of this fleet are full. {'. '.join(said)}")

    @property
    def _taking(self) -> Mapping[str, Line]:
        """Those that take more."""
        return {name: line for name, line in self._lines.items() if not line.member.drains}

    @property
    def all(self) -> Sequence[Line]:
        """To each server, by name."""
        return [self._lines[name] for name in sorted(self._lines)]

    @property
    def open(self) -> Sequence[Channel]:
        """The connections that there are now."""
        return [channel for line in self.all if (channel := line.open) is not None]

    @property
    def counted(self) -> Counted:
        """What has crossed those."""
        return total([channel.link.counted for channel in self.open])

    def close(self) -> None:
        """End all connections. May be called again."""
        with self._guard:
            self._closed = True
        for line in self.all:
            line.close()


def _process(member: Member) -> tuple[str, str, int]:
    """What stays the same while the process does."""
    return member.name, member.address, member.born


def total(parts: Sequence[Counted]) -> Counted:
    """The traffic of several links."""
    return Counted(
        *(sum(getattr(part, name) for part in parts) for name in Counted.__struct_fields__)
    )
