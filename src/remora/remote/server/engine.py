"""The one thread that computes, whatever turns it takes."""

from __future__ import annotations

import threading

from remora.core.errors import Full
from remora.remote.server.clients import Client
from remora.remote.server.sessions import Sessions
from remora.remote.server.turns import IDLE_S, Turns
from remora.remote.server.work import AnyWork, Work


class Engine:
    """Computes what is submitted, in a thread of its own, until it is closed.

    Args:
        turns: who runs next.
        most_waiting: requests that may wait; more are refused.
    """

    def __init__(self, turns: Turns, sessions: Sessions, *, most_waiting: int = 1024) -> None:
        self.turns, self._sessions, self._most = turns, sessions, most_waiting
        self._changed = threading.Condition()
        self._has_news = False
        self._closed = False
        self._thread = threading.Thread(target=self._compute, name="remora-compute", daemon=True)
        self._thread.start()

    def submit(self, work: AnyWork) -> None:
        """Put ``work`` in the queue.

        Raises:
            Full: too many wait already.
        """
        with self._changed:
            if self.waiting >= self._most:
                raise Full(f"{self._most} requests wait already; try again later")
            self.turns.add(work)
            self._tell()

    def cancel(self, work: Work) -> None:
        """Nobody waits for it any more: it is dropped before the next turn."""
        work.cancelled = True
        with self._changed:
            self.turns.cancelled(work)
            self._tell()

    def left(self, client: Client) -> None:
        """``client`` is gone, and all its works are cancelled."""
        with self._changed:
            self.turns.left(client)
            self._tell()

    @property
    def waiting(self) -> int:
        """Requests that wait or are at work."""
        return len(self.turns.works())

    @property
    def thread_id(self) -> int:
        """Of the one that computes, as the system counts; threads of operators inherit from it."""
        return self._thread.native_id or 0

    def close(self) -> None:
        """Stop behind the turn that runs."""
        with self._changed:
            self._closed = True
            self.turns.close()
            self._tell()
        self._thread.join()

    def _tell(self) -> None:
        self._has_news = True
        self._changed.notify()

    def _compute(self) -> None:
        rest_s = IDLE_S
        while True:
            with self._changed:
                if rest_s and not self._has_news:
                    self._changed.wait(rest_s)
                if self._closed:
                    return
                is_idle = not self._has_news and rest_s >= IDLE_S
                self._has_news = False
            if is_idle:
                self._sessions.drop_expired()
            rest_s = self.turns.turn()
