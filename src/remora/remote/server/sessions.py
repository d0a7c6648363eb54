"""All sessions of a server: who owns which, how long it may stay unused, and room for it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence

import torch

from remora.core.clock import Clock
from remora.core.errors import Full, Refused, SessionLost
from remora.remote.graph.decoder import context_in
from remora.remote.graph.plan import check_inputs
from remora.remote.server.eviction import Eviction, held_bytes
from remora.remote.server.models import Model
from remora.remote.server.session import Session


class Sessions:
    """All sessions of a server. Thread-safe.

    Args:
        eviction: how much their states may take, and who makes room.
        lease_s: a session that has not been used for so long is dropped.
        most: sessions at a time.
    """

    def __init__(self, eviction: Eviction, clock: Clock, *, lease_s: float, most: int) -> None:
        self.lease_s, self._most = lease_s, most
        self._eviction, self._clock = eviction, clock
        self.dropped = 0
        """How many had to go because others needed the room."""
        self._spare = 0
        """Bytes that are free for certain: counting anew for every token would take too long."""
        self._sessions: dict[str, Session] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def held_bytes(self) -> int:
        """What the states of all sessions take on the device."""
        with self._guard:
            return held_bytes(self._sessions.values())

    @property
    def host_bytes(self) -> int:
        """What those take that were moved to the host."""
        with self._guard:
            return held_bytes(self._sessions.values(), on_host=True)

    def open(self, owner: object, model: Model, context: Sequence[torch.Tensor] = ()) -> Session:
        """A new session, empty. Its name cannot be guessed.

        Args:
            context: one sequence each of what the model is given beside tokens and state.

        Raises:
            Refused: there are as many as there may be, the model has no sessions, or the context
                is not what it takes or does not fit.
        """
        if not model.decoder:
            raise Refused("this model was loaded without sessions; load it as a decoder")
        check_inputs(context_in(model.graph), context)
        if any(tensor.shape[0] != 1 for tensor in context):
            raise Refused("a session is one sequence: its context has a batch of 1")
        self.drop_expired()
        self._make_room(sum(tensor.nbytes for tensor in context), "this context")
        state = [tensor.to(self._eviction.device) for tensor in model.no_state()]
        held = [tensor.to(self._eviction.device) for tensor in context]
        session = Session(secrets.token_urlsafe(12), owner, model, state, held)
        session.used_ns = self._clock.wall_ns()
        with self._guard:
            if len(self._sessions) >= self._most:
                raise Full(f"{self._most} sessions are open, and no more are kept; close one")
            self._sessions[session.name] = session
        return session

    def find(self, name: str, owner: object) -> Session:
        """The session called so, if it is ``owner``'s.

        Raises:
            SessionLost: there is none, or it belongs to somebody else: both look the same.
        """
        with self._guard:
            return self._found(name, owner)

    def get(self, name: str, owner: object) -> Session:
        """As :meth:`find`; it is in use from now on.

        Raises:
            Refused: a request for it is under way.
        """
        with self._guard:
            session = self._found(name, owner)
            if session.working:
                raise Refused("this session is at work on another request; wait for that first")
            session.working = True
            return session

    def _found(self, name: str, owner: object) -> Session:
        session = self._sessions.get(name)
        if session is None or session.owner is not owner:
            raise _lost()
        return session

    def rewind(self, session: Session, length: int, unread: int) -> None:
        """As :meth:`Session.rewind`.

        Raises:
            BadValue: it holds fewer.
            SessionLost: it has been dropped meanwhile.
        """
        with self._guard:
            if session.closed:
                raise _lost()
            session.rewind(length, unread)

    def reorder(self, sessions: Sequence[Session], sources: Sequence[int]) -> None:
        """Have each go on from where the one at its source stands.

        Raises:
            Refused: those that go on further in the text than before have no room for it.
            SessionLost: one has been dropped meanwhile.
        """
        standing = [session.standing() for session in sessions]
        longer = [
            max(0, sessions[source].state_bytes - session.state_bytes)
            for session, source in zip(sessions, sources, strict=True)
        ]
        self._make_room(sum(longer), "these sessions")
        with self._guard:
            if any(session.closed for session in sessions):
                raise _lost()
            for session, source in zip(sessions, sources, strict=True):
                session.stand(standing[source])

    def rest(self, session: Session) -> None:
        """The request for it is done."""
        session.used_ns = self._clock.wall_ns()
        session.working = False

    def room_for(self, session: Session, tokens: int) -> None:
        """See that ``tokens`` more fit.

        Raises:
            Refused: they do not.
        """
        most = session.model.positions
        if most and session.length + tokens > most:
            raise Refused(
                f"this model reads {most} tokens at most: the session has {session.length}, and "
                f"{tokens} more are to come; begin another session with the latest part of the text"
            )
        needed = tokens * session.model.token_bytes
        if session.on_host:
            needed += session.state_bytes
        self._make_room(needed, f"{tokens} tokens more")
        if session.on_host:
            self._eviction.bring_back(session)

    def _make_room(self, needed: int, what: str) -> None:
        with self._guard:
            if needed > self._spare:
                sessions, now_ns = self._sessions.values(), self._clock.wall_ns()
                dropped = self._eviction.make_room(sessions, needed, what, now_ns)
                self.dropped += len(dropped)
                self._close(dropped)
                self._spare = self._eviction.device_bytes - held_bytes(self._sessions.values())
            self._spare -= needed

    def close(self, sessions: Iterable[Session]) -> None:
        """They are needed no longer."""
        with self._guard:
            self._close(sessions)

    def _close(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self._sessions.pop(session.name, None)
            session.closed, session.state, session.ready = True, [], None

    def of(self, owner: object) -> Sequence[Session]:
        """All that belong to ``owner``."""
        with self._guard:
            return [session for session in self._sessions.values() if session.owner is owner]

    def drop_expired(self) -> None:
        """Drop those whose lease has run out."""
        oldest_ns = self._clock.wall_ns() - round(self.lease_s * 1e9)
        with self._guard:
            expired = [
                s for s in self._sessions.values() if s.used_ns < oldest_ns and not s.working
            ]
        self.close(expired)


def _lost() -> SessionLost:
    return SessionLost("the server holds no such session (any more); open another")
