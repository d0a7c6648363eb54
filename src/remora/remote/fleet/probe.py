"""Asking one server, over and over, whether it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from remora.core.errors import DeadlineExceeded, RemoteError
from remora.remote.fleet.members import Members
from remora.remote.messages import Count
from remora.remote.wire.channel import Channel


@dataclass(frozen=True)
class Health:
    """How soon a server is missed: one that has died at once, as its connection ends; one that
    hangs after ``every_s`` and ``silent_s`` together.
    """

    every_s: float = 1.0
    """Between two questions."""
    silent_s: float = 5.0
    """How long an answer may take: longer than a server may hold its interpreter, as when it takes
    in a large model."""


class Probe:
    """Asks until it is closed, in a thread of its own, and tells ``members``.

    Args:
        dial: connects to the server.
        name: the server's.
        born: the process of that name that is asked.
    """

    def __init__(
        self,
        dial: Callable[[], Channel],
        name: str,
        born: int,
        members: Members,
        health: Health,
    ) -> None:
        self._dial, self._name, self.born = dial, name, born
        self._members, self._health = members, health
        self._channel: Channel | None = None
        self._soon = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._ask_on, name="remora-probe", daemon=True)
        self._thread.start()

    def now(self) -> None:
        """Ask without waiting any longer."""
        self._soon.set()

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._soon.set()
        self._thread.join()

    def _ask_on(self) -> None:
        while not self._closed:
            self._soon.clear()
            self._ask()
            self._soon.wait(self._health.every_s)
        self._hang_up()

    def _ask(self) -> None:
        try:
            if self._channel is None:
                self._channel = self._dial()
            arrived = self._channel.call(Count(), deadline_s=self._health.silent_s)
            self._members.answers(self._name, self.born, arrived.message.counts)
        except DeadlineExceeded:
            why = f"no answer within {self._health.silent_s:g} s"
            self._members.is_silent(self._name, self.born, why)
        except RemoteError as error:
            self._members.is_silent(self._name, self.born, str(error))
            self._hang_up()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
