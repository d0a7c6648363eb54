"""One connection to a directory: a server that has joined, or a client that asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import singledispatchmethod

from remora.core.errors import LinkLost, Refused, RemoteError
from remora.remote.fleet.members import Members
from remora.remote.fleet.messages import Answer, Ask, Drain, End, Join, Joined, Report, Watch
from remora.remote.fleet.probe import Probe
from remora.remote.messages import Done, Failed
from remora.remote.wire.arrived import Cancelled
from remora.remote.wire.link import Link


class Desk:
    """Answers over one link until it ends.

    Args:
        join: takes in a server.
        ended: to be set when the client wants the fleet to end.
    """

    def __init__(
        self,
        members: Members,
        join: Callable[[Join], Probe],
        ended: threading.Event,
        link: Link,
    ) -> None:
        self._members, self._join, self._ended, self._link = members, join, ended, link
        self._probe: Probe | None = None
        self._watchers: list[threading.Thread] = []
        self._open = True

    def serve(self) -> None:
        """Answer until the other end goes; of a server, ask it then whether it is still there."""
        try:
            while True:
                arrived = self._link.receive()
                if not isinstance(arrived.message, Cancelled):
                    self._answer(arrived.request, arrived.message)
        except LinkLost:
            return
        finally:
            self._leave()

    def _answer(self, request: int, message: object) -> None:
        try:
            answer = self._handle(message, request)
        except RemoteError as error:
            answer = Failed(type(error).__name__, str(error))
        if answer is not None:
            self._link.send(request, answer)

    @singledispatchmethod
    def _handle(self, message: object, request: int) -> Answer | None:
        raise Refused(f"unknown question {type(message).__name__}")

    @_handle.register
    def _(self, message: Join, request: int) -> Answer | None:
        self._probe = self._join(message)
        return Joined()

    @_handle.register
    def _(self, message: Watch, request: int) -> Answer | None:
        if self._watchers:
            raise Refused("this connection is told of every change already")
        watcher = threading.Thread(target=self._tell, args=(request,), daemon=True)
        self._watchers.append(watcher)
        watcher.start()
        return None

    @_handle.register
    def _(self, message: Ask, request: int) -> Answer | None:
        return Report(self._members.standings)

    @_handle.register
    def _(self, message: Drain, request: int) -> Answer | None:
        self._members.drain(message.name, message.within_s)
        return Done()

    @_handle.register
    def _(self, message: End, request: int) -> Answer | None:
        self._link.send(request, Done())  # first: what ends the fleet ends this link as well
        self._ended.set()
        return None

    def _tell(self, request: int) -> None:
        """Send each view, in a thread of its own: this one must go on reading."""
        version = 0
        while (found := self._members.newer(version, lambda: self._open)) is not None:
            version, view = found
            try:
                self._link.send(request, view)
            except RemoteError:
                self._link.close()
                return

    def _leave(self) -> None:
        self._open = False
        self._members.wake()
        for watcher in self._watchers:
            watcher.join()
        if self._probe is not None:
            self._probe.now()
