"""Sessions: what a language model has read so far, kept where it runs."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence

import torch

from remora.core.clock import Clock
from remora.core.errors import BadValue, Refused, SessionLost
from remora.core.units import format_bytes
from remora.remote.graph.decoder import context_in
from remora.remote.graph.plan import check_inputs
from remora.remote.server.models import Model


class Session:
    """One sequence: its state on the device, how long it is, and the token that comes next.

    A token that has been given to the client may not have been read by the model yet: it is read
    when the one after it is wanted, or before more of the client's.
    """

    def __init__(
        self,
        name: str,
        owner: object,
        model: Model,
        state: list[torch.Tensor],
        context: Sequence[torch.Tensor] = (),
    ) -> None:
        self.name, self.owner, self.model, self.state = name, owner, model, state
        self.context = context
        """What the model is given beside the state at every token, and does not change."""
        self.length = 0
        """Tokens that the state holds."""
        self.ready: torch.Tensor | None = None
        """Logits (vocabulary) behind those, of which the next token has yet to be chosen."""
        self.unread: int | None = None
        """The newest token that was given, while the state does not hold it."""
        self.served = 0.0
        """How much it has been given so far, in tokens, for a fair share."""
        self.used_ns = 0
        """When a request for it last came or ended."""
        self.working = False
        """Whether a request for it waits or runs. One at a time."""
        self.closed = False

    def rewind(self, length: int, unread: int) -> None:
        """Forget all behind the first ``length`` tokens; ``unread`` comes next.

        Raises:
            BadValue: it holds fewer.
        """
        if not 0 <= length <= self.length:
            raise BadValue(f"this session holds {self.length} tokens; it cannot keep {length}")
        self.state = [tensor[:, :, :length] for tensor in self.state]
        self.length, self.ready, self.unread = length, None, unread

    @property
    def state_bytes(self) -> int:
        """What its state and context take."""
        context_bytes = sum(tensor.nbytes for tensor in self.context)
        ready_bytes = 0 if self.ready is None else self.ready.nbytes
        return self.length * self.model.token_bytes + context_bytes + ready_bytes


class Sessions:
    """All sessions of a server. Thread-safe.

    Args:
        limit_bytes: the most that all their states may take.
        lease_s: a session that has not been used for so long is dropped.
        most: sessions at a time.
    """

    def __init__(
        self, device: torch.device, clock: Clock, *, limit_bytes: int, lease_s: float, most: int
    ) -> None:
        self.lease_s, self._limit, self._most = lease_s, limit_bytes, most
        self._device, self._clock = device, clock
        self._sessions: dict[str, Session] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def held_bytes(self) -> int:
        """What the states of all sessions take."""
        with self._guard:
            return sum(session.state_bytes for session in self._sessions.values())

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
        self._check_room(sum(tensor.nbytes for tensor in context), "this context")
        state = [tensor.to(self._device) for tensor in model.no_state()]
        held = [tensor.to(self._device) for tensor in context]
        session = Session(secrets.token_urlsafe(12), owner, model, state, held)
        session.used_ns = self._clock.wall_ns()
        with self._guard:
            if len(self._sessions) >= self._most:
                raise Refused(f"{self._most} sessions are open, and no more are kept; close one")
            self._sessions[session.name] = session
        return session

    def find(self, name: str, owner: object) -> Session:
        """The session called so, if it is ``owner``'s.

        Raises:
            SessionLost: there is none, or it belongs to somebody else: both look the same.
        """
        with self._guard:
            session = self._sessions.get(name)
            if session is None or session.owner is not owner:
                raise SessionLost("the server holds no such session (any more); open another")
            return session

    def get(self, name: str, owner: object) -> Session:
        """As :meth:`find`; it is in use from now on.

        Raises:
            Refused: a request for it is under way.
        """
        session = self.find(name, owner)
        with self._guard:
            if session.working:
                raise Refused("this session is at work on another request; wait for that first")
            session.working = True
            return session

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
        self._check_room(tokens * session.model.token_bytes, f"{tokens} tokens more")

    def _check_room(self, needed: int, what: str) -> None:
        if self.held_bytes + needed > self._limit:
            raise Refused(
                f"no room for {what} ({format_bytes(needed)}): all sessions may take "
                f"{format_bytes(self._limit)}; close one, or start the server with more"
            )

    def close(self, sessions: Iterable[Session]) -> None:
        """They are needed no longer."""
        with self._guard:
            for session in sessions:
                self._sessions.pop(session.name, None)
                session.closed, session.state = True, []

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
