"""Fair turns: everyone gets a little, one after another, and nobody waits long.

A turn is one token for every sequence that decodes, then one chunk of one prompt, then one call of
a model or one slice of a segment. So a sequence waits for its next token no longer than for one
chunk and one call, however long the prompts are that others bring. Of prompts, and of sequences
where more decode than go together, those come first that have been given the fewest tokens; one
that is new begins level with the least of those at work, so nobody starves and nobody can save up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from remora.core.clock import Clock
from remora.core.errors import Refused
from remora.remote.messages import Done, Profile, Ran
from remora.remote.server.answers import (
    Calling,
    answer_read,
    answer_token,
    is_last,
    is_read,
    settle,
)
from remora.remote.server.decoding import Batch, read
from remora.remote.server.drawing import chosen
from remora.remote.server.models import Model
from remora.remote.server.session import Session
from remora.remote.server.sessions import Sessions
from remora.remote.server.turns import IDLE_S, Turns, answer_failed
from remora.remote.server.work import (
    AnyWork,
    CallWork,
    GenerateWork,
    PrefillWork,
    ReorderWork,
    RewindWork,
    SegmentWork,
    Work,
)

SLICE_NS = 20_000_000
"""How long a segment runs before others have their turn."""


class FairTurns(Turns):
    """As the module says.

    Args:
        chunk_tokens: how much of a prompt is read at a time.
        together: how many sequences decode at a time.
    """

    def __init__(
        self,
        sessions: Sessions,
        device: torch.device,
        clock: Clock,
        *,
        chunk_tokens: int = 128,
        together: int = 16,
    ) -> None:
        super().__init__(sessions)
        self._device, self._clock = device, clock
        self._chunk, self._together = chunk_tokens, together
        self._moves: deque[RewindWork | ReorderWork] = deque()
        """What takes sessions to another place in their text; nothing is computed for it."""
        self._calls: deque[CallWork | SegmentWork] = deque()
        self._prompts: list[PrefillWork] = []
        self._decoding: list[GenerateWork] = []
        self._batches: dict[Model, Batch] = {}
        self._guard = threading.Lock()
        """Held where a queue is changed: others add meanwhile."""

    def add(self, work: AnyWork) -> None:
        with self._guard:
            if isinstance(work, RewindWork | ReorderWork):
                self._moves.append(work)
            elif isinstance(work, CallWork | SegmentWork):
                self._calls.append(work)
            else:
                self._level(work.session)
                (self._prompts if isinstance(work, PrefillWork) else self._decoding).append(work)  # type: ignore[arg-type]

    def works(self) -> Sequence[Work]:
        return [*self._moves, *self._calls, *self._prompts, *self._decoding]

    def turn(self) -> float:
        self._drop_cancelled()
        while self._moves:
            move = self._moves.popleft()
            self._guarded([move], lambda move=move: self._move(move))  # type: ignore[misc]
        for model, works in self._to_decode().items():
            self._guarded(works, lambda model=model, works=works: self._decode(model, works))  # type: ignore[misc]
        if self._prompts:
            prompt = min(self._prompts, key=lambda work: work.session.served)
            self._guarded([prompt], lambda: self._prefill(prompt))
        if self._calls:
            call = self._calls.popleft()
            if isinstance(call, SegmentWork):
                self._guarded([call], lambda: self._advance(call))
            else:
                self._guarded([call], lambda: self._call(call))
        return 0.0 if self.works() else IDLE_S

    def _to_decode(self) -> dict[Model, list[GenerateWork]]:
        chosen: dict[Model, list[GenerateWork]] = {}
        for work in sorted(self._decoding, key=lambda work: work.session.served)[: self._together]:
            chosen.setdefault(work.session.model, []).append(work)
        for works in chosen.values():  # in the order they came: a batch that stays is not made anew
            works.sort(key=self._decoding.index)
        return chosen

    def _guarded(self, works: Iterable[Work], action: Callable[[], None]) -> None:
        """Whatever goes wrong ends these requests, and nothing else."""
        works = list(works)
        try:
            action()
        except Exception as error:  # of any kind: the graph is a stranger's
            for work in works:
                self._fail(work, error)

    # ------------------------------------------------- one piece of work

    def _move(self, work: RewindWork | ReorderWork) -> None:
        if isinstance(work, RewindWork):
            self._apart(work.session)
            self._sessions.rewind(work.session, work.length, work.unread)
        else:
            for session in work.sessions:
                self._apart(session)
            self._sessions.reorder(work.sessions, work.sources)
            for session in work.sessions:
                self._sessions.rest(session)
        work.answer(Done(), [])

    def _call(self, work: CallWork) -> None:
        calling = Calling(work, self._device, self._clock)
        calling.answer(work.model.program.run(calling.inputs()))

    def _advance(self, work: SegmentWork) -> None:
        """One slice. It stays first in its queue, so a client's segments keep their order."""
        if work.segment.advance(self._clock.wall_ns() + SLICE_NS):
            work.answer(Ran(), work.segment.fetched)
            return
        with self._guard:
            self._calls.appendleft(work)

    def _prefill(self, work: PrefillWork) -> None:
        session, begun_ns = work.session, self._clock.wall_ns()
        chunk = work.tokens[:, work.begun : work.begun + self._chunk].to(self._device)
        self._apart(session)
        # For all of it: what cannot be read to its end is refused before its first token.
        self._sessions.room_for(session, work.tokens.shape[1] - work.begun)
        logits = read(session, chunk)
        settle(work, self._device)
        if not is_read(work, chunk.shape[1], self._clock.wall_ns() - begun_ns):
            return
        session.ready, session.unread = logits[0, -1].clone(), None
        self._prompts.remove(work)
        self._sessions.rest(session)
        answer_read(work, logits, self._clock.wall_ns())

    def _decode(self, model: Model, works: list[GenerateWork]) -> None:
        given = [work for work in works if work.session.ready is not None]
        for work in given:
            self._give_ready(work)
        works = [work for work in works if work not in given and self._has_room(work)]
        if not works:
            return
        begun_ns = self._clock.wall_ns()
        tokens = self._step(self._batches.setdefault(model, Batch(model)), works)
        execute_ns = self._clock.wall_ns() - begun_ns
        for work, token in zip(works, tokens, strict=True):
            if isinstance(token, Exception):
                self._fail(work, token)
                continue
            work.session.served += 1
            profile = Profile(
                queue_ns=begun_ns - work.asked_ns, execute_ns=execute_ns, batch=len(works)
            )
            self._give(work, token, profile)

    def _give_ready(self, work: GenerateWork) -> None:
        """The token behind what was read, of whose logits are there already."""
        if work.session.ready is not None:
            token = chosen(work.session.ready, work.draw, work.session.length)
            self._give(work, token, Profile())

    def _has_room(self, work: GenerateWork) -> bool:
        """Whether one more token fits; where not, it is refused, and those beside it go on."""
        try:
            self._sessions.room_for(work.session, 1)
        except Refused as error:
            self._fail(work, error)
            return False
        return True

    def _step(self, batch: Batch, works: list[GenerateWork]) -> Sequence[int | Exception]:
        """The next token of each; where they fail together, each alone, to find which does."""
        sessions = [work.session for work in works]
        try:
            return _chosen(batch.step(sessions), works)
        except Exception as error:  # of any kind: the graph is a stranger's
            if len(sessions) == 1:
                return [error]
            batch.part()
            return [self._step(batch, [work])[0] for work in works]

    def _give(self, work: GenerateWork, token: int, profile: Profile) -> None:
        """``token`` is the session's newest, and goes to who asked."""
        last = is_last(work, token, self._clock.wall_ns())
        if last:
            self._decoding.remove(work)
            self._apart(work.session)
            self._sessions.rest(work.session)
        answer_token(work, token, last, profile)

    # ------------------------------------------------- what is left behind

    def _apart(self, session: Session) -> None:
        """``session`` has its own state again."""
        batch = self._batches.get(session.model)
        if batch is not None and batch.holds(session):
            batch.part()

    def _level(self, session: Session) -> None:
        """A session that comes (back) begins with no less than the least of those at work."""
        at_work: list[Any] = [*self._prompts, *self._decoding]
        least = min((work.session.served for work in at_work), default=session.served)
        session.served = max(session.served, least)

    def _drop_cancelled(self) -> None:
        for work in [work for work in self.works() if work.cancelled]:
            self._forget(work)
        for model in [m for m in self._batches if m.holders <= 0]:
            self._batches.pop(model).part()

    def _forget(self, work: Work) -> None:
        with self._guard:
            for queue in (self._moves, self._calls, self._prompts, self._decoding):
                if work in queue:
                    queue.remove(work)  # type: ignore[arg-type]
        if isinstance(work, PrefillWork | GenerateWork):
            self._apart(work.session)
        self._let_go(work)

    def _fail(self, work: Work, error: Exception) -> None:
        self._forget(work)
        answer_failed(work, error)


def _chosen(logits: torch.Tensor, works: Sequence[GenerateWork]) -> list[int]:
    """The next token of each, by ``logits`` (batch, vocabulary)."""
    tokens: list[int] = logits.argmax(-1).tolist()
    return [
        token if work.draw is None else chosen(row, work.draw, work.session.length)
        for token, row, work in zip(tokens, logits, works, strict=True)
    ]
