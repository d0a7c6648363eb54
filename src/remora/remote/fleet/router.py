"""A client's knowledge of its fleet: which servers there are, as the directory tells it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec

from remora.core.errors import RemoteError
from remora.remote.fleet.messages import Member, Watch
from remora.remote.wire.address import TcpAddress, parse_address
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.channel import Channel

AGAIN_S = 0.5
"""How long after losing the directory it is asked again."""
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that stand for all addresses of a machine."""


class Router:
    """Watches a directory until it is closed, in a thread of its own.

    While the directory is gone, or knows of no server, what it said last holds: it may be cut off
    from servers that this client can reach.

    Args:
        dial: connects to the directory.
        directory: its address.
        changed: called with the servers, first before this returns and then whenever they change.

    Raises:
        BadValue, ServerLost, Refused: as ``dial`` does, at first. Later it is tried again.
    """

    def __init__(
        self,
        dial: Callable[[], Channel],
        directory: str,
        changed: Callable[[tuple[Member, ...]], object],
    ) -> None:
        self._dial, self._directory, self._changed = dial, directory, changed
        self._closing = threading.Event()
        self._channel = dial()
        try:
            views = self._channel.stream(Watch())
            self._take(next(views))
        except BaseException:
            self._channel.close()
            raise
        self._thread = threading.Thread(
            target=self._follow, args=(views,), name="remora-router", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Watch no more. May be called again."""
        self._closing.set()
        self._channel.close()
        self._thread.join()

    def _follow(self, views: Iterator[Arrived]) -> None:
        while not self._closing.is_set():
            try:
                for arrived in views:
                    self._take(arrived)
            except RemoteError:
                self._channel.close()
            if self._closing.wait(AGAIN_S):
                return
            try:
                self._channel = self._dial()
                views = self._channel.stream(Watch())
            except RemoteError:
                views = iter(())
        self._channel.close()  # one that was made while this was being closed

    def _take(self, arrived: Arrived) -> None:
        members: tuple[Member, ...] = arrived.message.members
        if members:
            self._changed(tuple(self._as_seen_from_here(member) for member in members))

    def _as_seen_from_here(self, member: Member) -> Member:
        """With the directory's host, where it says that it is at all of its machine's."""
        where, directory = parse_address(member.address), parse_address(self._directory)
        if (
            isinstance(where, TcpAddress)
            and isinstance(directory, TcpAddress)
            and where.host in EVERYWHERE
        ):
            seen = str(TcpAddress(directory.host, where.port))
            return msgspec.structs.replace(member, address=seen)
        return member
