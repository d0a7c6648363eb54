"""Which servers a fleet has, and which of them serve: what a directory knows. No sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from remora.core.errors import Refused
from remora.remote.fleet.messages import Join, Member, Standing, View


@dataclass
class _Server:
    """One that is expected, and what is known of the process that it is now."""

    join: Join | None = None
    born: int = 0
    starts: int = 0
    serves: bool = False
    drains_until_s: float | None = None
    """When it is left out at the latest; None: it does not drain."""
    drained: bool = False
    why: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class Members:
    """The servers of a fleet by name. Thread-safe.

    One serves from the first time that it answers until it no longer does. When it is started again
    it comes under the same name, and what is heard of the process before no longer counts.

    Args:
        names: the servers that are expected.
        told: called with a line whenever one begins or ceases to serve.
        now_s: a clock that goes on by itself.
    """

    def __init__(
        self,
        names: Iterable[str],
        told: Callable[[str], object] = lambda words: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = {name: _Server() for name in names}
        self._told, self._now_s = told, now_s
        self._born = 0
        self._version = 0
        self._changed = threading.Condition()

    def join(self, join: Join) -> int:
        """A server is at ``join.address`` from now on; returns the number it was born with.

        The same process may join again, and is then the same still.

        Raises:
            Refused: no server of that name is expected.
        """
        with self._changed:
            server = self._expected(join.name)
            if server.join != join:
                self._ceases(join.name, server, "it was started again")
                self._born += 1
                server.join, server.born = join, self._born
                server.drains_until_s, server.drained = None, False
                server.starts += 1
            return server.born

    def answers(self, name: str, born: int, counts: Mapping[str, int]) -> None:
        """The server answers, and holds what ``counts`` says."""
        with self._changed:
            server = self._servers[name]
            if server.born != born or server.join is None:
                return
            server.counts = counts
            if server.drains_until_s is not None:
                over = self._now_s() >= server.drains_until_s
                if server.serves and (over or not counts.get("sessions")):
                    server.drained = True
                    self._ceases(name, server, "it has drained")
            if not server.serves and not server.drained:
                server.serves, server.why = True, ""
                self._told(f"{name} serves on {server.join.address}")
                self._change()

    def is_silent(self, name: str, born: int, why: str) -> None:
        """The server does not answer."""
        with self._changed:
            server = self._servers[name]
            if server.born == born:
                self._ceases(name, server, why)

    def drain(self, name: str, within_s: float) -> None:
        """Send nobody new to the server, and nobody at all when it has no sessions, or ``within_s``
        is over, until it is started again.

        Raises:
            Refused: there is none of that name, or it does not serve.
        """
        with self._changed:
            server = self._expected(name)
            if not server.serves:
                raise Refused(f"{name} does not serve, so there is nothing to drain")
            server.drains_until_s = self._now_s() + within_s
            self._told(
                f"{name} takes no new sessions, and is left out in {within_s:g} s at the latest"
            )
            self._change()

    @property
    def view(self) -> View:
        """Those that serve."""
        with self._changed:
            return self._view()

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How each is."""
        with self._changed:
            return tuple(_standing(name, server) for name, server in self._servers.items())

    def newer(self, version: int, goes_on: Callable[[], bool]) -> tuple[int, View] | None:
        """The view now, as soon as ``version`` changes have been, and the number for the next one.

        None when ``goes_on`` ends; who ends it calls :meth:`wake`.
        """
        with self._changed:
            while goes_on():
                if self._version >= version:
                    return self._version + 1, self._view()
                self._changed.wait()
            return None

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Whether ``count`` servers serve within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._view().members) >= count, timeout_s)

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def _expected(self, name: str) -> _Server:
        server = self._servers.get(name)
        if server is None:
            raise Refused(f"this fleet has no {name[:80]!r}; it has {', '.join(self._servers)}")
        return server

    def _ceases(self, name: str, server: _Server, why: str) -> None:
        server.why = why
        if server.serves:
            server.serves = False
            self._told(f"{name} is left out: {why}")
            self._change()

    def _change(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _view(self) -> View:
        return View(
            tuple(
                Member(name, server.join.address, server.born, server.drains_until_s is not None)
                for name, server in self._servers.items()
                if server.serves and server.join is not None
            )
        )


def _standing(name: str, server: _Server) -> Standing:
    join = server.join
    if join is None:
        return Standing(name, "absent")
    return Standing(
        name,
        _state(server),
        join.address,
        join.device,
        join.pid,
        server.starts,
        server.why,
        dict(server.counts),
    )


def _state(server: _Server) -> str:
    if server.drained:
        return "drained"
    if not server.serves:
        return "silent"
    return "serving" if server.drains_until_s is None else "draining"
