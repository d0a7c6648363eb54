"""A fleet, seen from a program: used as one server is, and spread over all of them."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import TypeVar

from remora.core.errors import Full, Refused, ServerLost
from remora.remote.client.server import RemoteServer
from remora.remote.fleet.lines import Line, Lines, Preference
from remora.remote.fleet.ring import order
from remora.remote.fleet.router import Router
from remora.remote.messages import Count
from remora.remote.wire.channel import Channel
from remora.remote.wire.counted import Counted

_Reached = TypeVar("_Reached")
_PAUSE_S = 0.1
"""Between two looks for a server, while there is none."""


class Fleet(RemoteServer):
    """Servers that a directory knows, as if they were one. Thread-safe; a context manager.

    Each session stays on one server, each call goes to one. What is lost with a server is made
    again on another: calls are repeated, sessions read their tokens. Weights go to the servers that
    need them, once to each.

    Args:
        router: makes a router that reports to what it is given.
        dial: connects to a server.
        address: of the directory, for messages.
        reconnect_s: how long to look for a server that answers, before that is an error.

    Raises:
        ServerLost: the directory does not answer, or no server.
    """

    def __init__(
        self,
        router: Callable[[Lines], Router],
        dial: Callable[[str], Channel],
        address: str,
        reconnect_s: float = 10.0,
    ) -> None:
        self._lines = Lines(dial)
        self._wait_s = reconnect_s
        self._key = secrets.token_hex(8)
        self._turns = itertools.count()
        self._router = router(self._lines)
        try:
            super().__init__(self._next, address, reconnect_s)
        except BaseException:
            self.close()
            raise

    @property
    def channel(self) -> Channel:
        """The connection that the next call goes over: to the server that has least to do for this
        program; where several have as little, always to the same.
        """
        return self._next()

    def renewed(self, lost: Channel, error: ServerLost) -> Channel:
        """A connection in place of ``lost``, perhaps to another server.

        Raises:
            ServerLost: none can be made in the time there is.
            LinkLost: this was closed.
        """
        lost.close()
        return self._next()

    def for_key(self, key: str | None) -> RemoteServer:
        """The fleet as what has this key sees it: the server that the key belongs to, and another
        only when that one is lost, or is full when a session comes. Those without a key take turns.

        ``fleet.for_key("mine").load(model)`` has all its calls and sessions on one server.
        """
        preference = _by_key(key) if key is not None else self._by_turns(next(self._turns))
        return self._patiently(lambda: Keyed(self._lines, preference, self.address, self._wait_s))

    def counts(self) -> Mapping[str, int]:
        """What the servers hold that this program is connected to, together."""
        counts: Counter[str] = Counter()
        for channel in self._lines.open:
            with suppress(ServerLost):
                counts.update(channel.call(Count()).message.counts)
        return counts

    @property
    def counted(self) -> Counted:
        """The bytes that crossed the connections that there are, counted at this end."""
        return self._lines.counted

    def close(self) -> None:
        """End all connections. May be called again."""
        self._leave()
        self._router.close()
        self._lines.close()

    def _next(self) -> Channel:
        return self._patiently(lambda: self._lines.reach(self._calls))

    def _patiently(self, reaches: Callable[[], _Reached]) -> _Reached:
        """What ``reaches`` gives, waiting for a server where there is none."""
        until = time.monotonic() + self._wait_s
        while True:
            try:
                return reaches()
            except (ServerLost, Refused):
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _calls(self, lines: Mapping[str, Line]) -> Sequence[Line]:
        return sorted(_by_key(self._key)(lines), key=attrgetter("outstanding"))

    def _by_turns(self, turn: int) -> Preference:
        def preference(lines: Mapping[str, Line]) -> Sequence[Line]:
            ordered = _by_key(self._key)(lines)
            begin = turn % len(ordered) if ordered else 0
            return [*ordered[begin:], *ordered[:begin]]

        return preference


class Keyed(RemoteServer):
    """A fleet as one key sees it, over connections that are the fleet's."""

    def __init__(
        self, lines: Lines, preference: Preference, address: str, reconnect_s: float
    ) -> None:
        self._lines, self._preference = lines, preference
        super().__init__(partial(lines.reach, preference), address, reconnect_s)

    def elsewhere(self, full: Mapping[str, Full]) -> Channel:
        """As :meth:`RemoteServer.elsewhere`: the next that this key prefers."""
        return self._lines.reach_beside(full, self._preference)

    def close(self) -> None:
        """Look for no other server any more. The connection stays: it may be others' as well."""
        self._leave()


def _by_key(key: str) -> Preference:
    def preference(lines: Mapping[str, Line]) -> Sequence[Line]:
        return [lines[name] for name in order(key, lines)]

    return preference
