"""The contract of turns: which of the requests that wait is worked on next, and how much of it.

An :class:`~remora.remote.server.engine.Engine` has one. It hands over what comes, from the threads
of those who ask, and has one thread that takes turn after turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from remora.core.errors import RemoraError
from remora.remote.graph.program import NodeFailed
from remora.remote.messages import ClientCounts, Failed
from remora.remote.server.clients import Client
from remora.remote.server.sessions import Sessions
from remora.remote.server.work import (
    AnyWork,
    GenerateWork,
    PrefillWork,
    ReorderWork,
    SegmentWork,
    Work,
)

IDLE_S: Final = 1.0
"""How often an idle server looks for sessions whose lease has run out."""


class Turns(ABC):
    """Who runs next."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @abstractmethod
    def add(self, work: AnyWork) -> None:
        """``work`` waits from now on. By any thread, one at a time."""

    @abstractmethod
    def works(self) -> Sequence[Work]:
        """All that wait or are at work. By any thread."""

    @abstractmethod
    def turn(self) -> float:
        """Drop what is cancelled, then do the next piece. By the thread that computes, alone.

        Returns for how many seconds nothing is to be done, unless something comes: 0 for another
        turn at once.
        """

    def cancelled(self, work: Work) -> None:  # noqa: B027  (it is seen at ``work`` as well)
        """Nobody waits for ``work`` any more. By any thread, one at a time."""

    def left(self, client: Client) -> None:  # noqa: B027  (not all turns know clients)
        """``client`` is gone; all its works are cancelled. By any thread, one at a time."""

    def close(self) -> None:  # noqa: B027
        """What runs is the last. By any thread."""

    def counts(self) -> Sequence[ClientCounts]:
        """What each client was given, where that is counted."""
        return ()

    # ------------------------------------------------- what all share

    def _let_go(self, work: Work) -> None:
        """What ``work`` holds is free: it will not be gone on with."""
        if isinstance(work, PrefillWork | GenerateWork):
            self._sessions.rest(work.session)
        elif isinstance(work, ReorderWork):
            for session in work.sessions:
                self._sessions.rest(session)
        elif isinstance(work, SegmentWork):
            work.segment.abandon()


def answer_failed(work: Work, error: Exception) -> None:
    """Say to who asked why there is no answer."""
    node = error.node if isinstance(error, NodeFailed) else -1
    kind = type(error).__name__ if isinstance(error, RemoraError) else "Refused"
    work.answer(Failed(kind, str(error)[:1000], node), [])
