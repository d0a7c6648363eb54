"""The one thread that computes, and in which order it does.

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
from remora.core.errors import Full, Refused, RemoraError
from remora.remote.graph.plan import check_inputs
from remora.remote.graph.program import NodeFailed
from remora.remote.messages import Done, Failed, Profile, Ran, Tokens
from remora.remote.server.decoding import Batch, read
from remora.remote.server.drawing import chosen
from remora.remote.server.kept import keep, with_kept
from remora.remote.server.models import Model
from remora.remote.server.outputs import select, to_keep
from remora.remote.server.session import Session
from remora.remote.server.sessions import Sessions
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

IDLE_S = 1.0
"""How often an idle server looks for sessions whose lease has run out."""
SLICE_NS = 20_000_000
"""How long a segment runs before others have their turn."""


class Engine:
    """Computes what is submitted, in a thread of its own, until it is closed.

    Args:
        chunk_tokens: how much of a prompt is read at a time.
        together: how many sequences decode at a time.
        most_waiting: requests that may wait; more are refused.
    """

    def __init__(
        self,
        sessions: Sessions,
        device: torch.device,
        clock: Clock,
        *,
        chunk_tokens: int = 128,
        together: int = 16,
        most_waiting: int = 1024,
    ) -> None:
        self._sessions, self._device, self._clock = sessions, device, clock
        self._chunk, self._together, self._most = chunk_tokens, together, most_waiting
        self._moves: deque[RewindWork | ReorderWork] = deque()
        """What takes sessions to another place in their text; nothing is computed for it."""
        self._calls: deque[CallWork | SegmentWork] = deque()
        self._prompts: list[PrefillWork] = []
        self._decoding: list[GenerateWork] = []
        self._batches: dict[Model, Batch] = {}
        self._changed = threading.Condition()
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
            if isinstance(work, RewindWork | ReorderWork):
                self._moves.append(work)
            elif isinstance(work, CallWork | SegmentWork):
                self._calls.append(work)
            else:
                self._level(work.session)
                (self._prompts if isinstance(work, PrefillWork) else self._decoding).append(work)  # type: ignore[arg-type]
            self._changed.notify()

    def cancel(self, work: Work) -> None:
        """Nobody waits for it any more: it is dropped before the next turn."""
        work.cancelled = True
        with self._changed:
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Requests that wait or are at work."""
        return len(self._all())

    def close(self) -> None:
        """Stop behind the turn that runs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # ------------------------------------------------- turns

    def _compute(self) -> None:
        while True:
            with self._changed:
                while not self.waiting and not self._closed:
                    self._changed.wait(IDLE_S)
                    self._sessions.drop_expired()
                if self._closed:
                    return
            self._turn()

    def _turn(self) -> None:
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
            self._rest(work)
        work.answer(Done(), [])

    def _call(self, work: CallWork) -> None:
        begun_ns = self._clock.wall_ns()
        tensors = with_kept(work.handles, work.held, work.tensors)
        check_inputs(work.model.graph.inputs, tensors)
        work.model.planner.needs(tuple(tuple(tensor.shape) for tensor in tensors))
        planned_ns = self._clock.wall_ns()
        inputs = [tensor.to(self._device) for tensor in tensors]
        placed_ns = self._clock.wall_ns()
        outputs = work.model.program.run(inputs)
        self._settle(work)
        executed_ns = self._clock.wall_ns()
        selected = select(outputs, work.wanted)
        kept = keep(work.handles, to_keep(outputs, work.wanted))
        selected_ns = self._clock.wall_ns()
        del tensors, inputs, outputs
        work.tensors = []
        done_ns = self._clock.wall_ns()
        profile = Profile(
            received_ns=work.asked_ns,
            receive_ns=work.receive_ns,
            queue_ns=begun_ns - work.asked_ns,
            plan_ns=planned_ns - begun_ns,
            placement_ns=placed_ns - planned_ns,
            execute_ns=executed_ns - placed_ns,
            output_ns=selected_ns - executed_ns,
            cleanup_ns=done_ns - selected_ns,
            answered_ns=done_ns,
        )
        work.answer(Ran(profile if work.profiled else None, kept), selected)

    def _settle(self, work: Work) -> None:
        """Before a time is taken that somebody wants: a device works on when its calls return."""
        if work.profiled and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _advance(self, work: SegmentWork) -> None:
        """One slice. It stays first in its queue, so a client's segments keep their order."""
        if work.segment.advance(self._clock.wall_ns() + SLICE_NS):
            work.answer(Ran(), work.segment.fetched)
            return
        with self._changed:
            self._calls.appendleft(work)

    def _prefill(self, work: PrefillWork) -> None:
        session, begun_ns = work.session, self._clock.wall_ns()
        chunk = work.tokens[:, work.begun : work.begun + self._chunk].to(self._device)
        self._apart(session)
        # For all of it: what cannot be read to its end is refused before its first token.
        self._sessions.room_for(session, work.tokens.shape[1] - work.begun)
        logits = read(session, chunk)
        self._settle(work)
        work.begun += chunk.shape[1]
        work.execute_ns += self._clock.wall_ns() - begun_ns
        session.served += chunk.shape[1]
        if work.begun < work.tokens.shape[1]:
            return
        session.ready, session.unread = logits[0, -1].clone(), None
        self._prompts.remove(work)
        self._sessions.rest(session)
        profile = self._read_profile(work)
        work.answer(Done(profile if work.profiled else None), select([logits], [work.wanted]))

    def _read_profile(self, work: PrefillWork) -> Profile:
        done_ns = self._clock.wall_ns()
        return Profile(
            received_ns=work.asked_ns,
            receive_ns=work.receive_ns,
            queue_ns=done_ns - work.asked_ns - work.execute_ns,
            execute_ns=work.execute_ns,
            answered_ns=done_ns,
        )

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
        session = work.session
        session.ready, session.unread = None, token
        work.count -= 1
        work.asked_ns = self._clock.wall_ns()
        last = work.count <= 0 or token in work.stop
        if last:
            self._decoding.remove(work)
            self._apart(session)
            self._sessions.rest(session)
        work.answer(Tokens((token,), last, profile if work.profiled else None), [])

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
        with self._changed:
            gone = [work for work in self._all() if work.cancelled]
            for work in gone:
                self._forget(work)
            for model in [m for m in self._batches if m.holders <= 0]:
                self._batches.pop(model).part()

    def _all(self) -> list[Work]:
        return [*self._moves, *self._calls, *self._prompts, *self._decoding]

    def _forget(self, work: Work) -> None:
        for queue in (self._moves, self._calls, self._prompts, self._decoding):
            if work in queue:
                queue.remove(work)  # type: ignore[arg-type]
        if isinstance(work, PrefillWork | GenerateWork):
            self._apart(work.session)
            self._sessions.rest(work.session)
        elif isinstance(work, ReorderWork):
            self._rest(work)
        elif isinstance(work, SegmentWork):
            work.segment.abandon()

    def _rest(self, work: ReorderWork) -> None:
        for session in work.sessions:
            self._sessions.rest(session)

    def _fail(self, work: Work, error: Exception) -> None:
        with self._changed:
            self._forget(work)
        node = error.node if isinstance(error, NodeFailed) else -1
        kind = type(error).__name__ if isinstance(error, RemoraError) else "Refused"
        work.answer(Failed(kind, str(error)[:1000], node), [])


def _chosen(logits: torch.Tensor, works: Sequence[GenerateWork]) -> list[int]:
    """The next token of each, by ``logits`` (batch, vocabulary)."""
    tokens: list[int] = logits.argmax(-1).tolist()
    return [
        token if work.draw is None else chosen(row, work.draw, work.session.length)
        for token, row, work in zip(tokens, logits, works, strict=True)
    ]
