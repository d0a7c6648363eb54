"""How each kind of request goes, unit by unit: a call, a segment, a prompt, tokens behind it."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from typing import Any

import torch

from remora.core.clock import Clock
from remora.remote.graph.running import Running
from remora.remote.messages import Done, Profile, Ran
from remora.remote.server.answers import (
    Calling,
    answer_read,
    answer_token,
    is_last,
    is_read,
    settle,
)
from remora.remote.server.compiling import CompiledProgram
from remora.remote.server.cutting import Cuts
from remora.remote.server.decoding import read_inputs, was_read
from remora.remote.server.drawing import chosen
from remora.remote.server.durations import GRAIN_NS, Durations, Steps, note_unit, unit_at
from remora.remote.server.models import Model, Runs
from remora.remote.server.session import Session
from remora.remote.server.sessions import Sessions
from remora.remote.server.units import Ahead, Course, Stepwise
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
from remora.share.policies.contract import Priority, Run
from remora.share.slicing.slicing import Pieces

Outputs = Generator[Ahead, Run, list[Any]]
"""A course that gives a graph's outputs."""


class Courses:
    """Those of one device.

    Args:
        chunk_tokens: how much of a prompt is read at a time.
        cuts: how best-effort operators are cut that take too long; None: they run whole.
    """

    def __init__(
        self,
        sessions: Sessions,
        device: torch.device,
        clock: Clock,
        *,
        chunk_tokens: int = 128,
        cuts: Cuts | None = None,
    ) -> None:
        self._sessions, self._device, self._clock = sessions, device, clock
        self._chunk, self._cuts = chunk_tokens, cuts
        self._durations = Durations()

    def of(self, work: AnyWork) -> Course:
        """How ``work`` goes."""
        if isinstance(work, CallWork):
            return self._call(work)
        if isinstance(work, SegmentWork):
            return self._segment(work)
        if isinstance(work, PrefillWork):
            return self._prompt(work)
        if isinstance(work, GenerateWork):
            return self._tokens(work)
        return self._move(work)

    # ------------------------------------------------- each kind of request

    def _call(self, work: CallWork) -> Course:
        calling = Calling(work, self._device, self._clock)
        yield Ahead(GRAIN_NS)  # checks, and bringing inputs to the device
        inputs = calling.inputs()
        kind = tuple(tuple(tensor.shape) for tensor in inputs)
        outputs = yield from self._graph(work, work.model.program, inputs, kind)
        del inputs
        calling.answer(outputs)

    def _segment(self, work: SegmentWork) -> Course:
        segment = work.segment
        yield Ahead(GRAIN_NS)
        segment.begin()
        yield from self._steps(work, segment, self._durations.of_plan(segment.compiled))
        segment.finish()
        work.answer(Ran(), segment.fetched)

    def _prompt(self, work: PrefillWork) -> Course:
        session = work.session
        while True:
            yield Ahead(GRAIN_NS)
            begun_ns = self._clock.wall_ns()
            chunk = work.tokens[:, work.begun : work.begun + self._chunk].to(self._device)
            # For all of it: what cannot be read to its end is refused before its first token.
            self._sessions.room_for(session, work.tokens.shape[1] - work.begun)
            logits = yield from self._read(work, session, chunk)
            settle(work, self._device)
            if is_read(work, chunk.shape[1], self._clock.wall_ns() - begun_ns):
                break
        session.ready, session.unread = logits[0, -1].clone(), None
        self._sessions.rest(session)
        answer_read(work, logits, self._clock.wall_ns())

    def _tokens(self, work: GenerateWork) -> Course:
        session, last = work.session, False
        while not last:
            yield Ahead(GRAIN_NS)
            profile = Profile()
            ready = session.ready
            if ready is None:
                begun_ns = self._clock.wall_ns()
                self._sessions.room_for(session, 1)
                unread = torch.tensor([[session.unread]], device=self._device)
                logits = yield from self._read(work, session, unread)
                ready = logits[0, -1]
                took_ns = self._clock.wall_ns() - begun_ns
                profile = Profile(queue_ns=begun_ns - work.asked_ns, execute_ns=took_ns)
            token = chosen(ready, work.draw, session.length)
            last = is_last(work, token, self._clock.wall_ns())
            if last:
                self._sessions.rest(session)
            answer_token(work, token, last, profile)

    def _move(self, work: RewindWork | ReorderWork) -> Course:
        if isinstance(work, RewindWork):
            self._sessions.rewind(work.session, work.length, work.unread)
        else:
            self._sessions.reorder(work.sessions, work.sources)
            for session in work.sessions:
                self._sessions.rest(session)
        work.answer(Done(), [])
        yield from ()

    # ------------------------------------------------- what they are made of

    def _read(
        self, work: Work, session: Session, tokens: torch.Tensor
    ) -> Generator[Ahead, Run, torch.Tensor]:
        """As :func:`~remora.remote.server.decoding.read`, in units."""
        model: Model = session.model
        inputs = read_inputs(session, tokens)
        kind = ("read", tokens.shape[1], session.length.bit_length())
        outputs = yield from self._graph(work, model.program, inputs, kind)
        return was_read(session, tokens, outputs)

    def _graph(
        self, work: Work, program: Runs, inputs: Sequence[torch.Tensor], kind: Hashable
    ) -> Outputs:
        if isinstance(program, CompiledProgram):
            if work.client.priority is Priority.HIGH:
                yield Ahead()
                return program.run(inputs)
            program = program.interpreter
        running = Running(program, inputs)
        yield from self._steps(work, running, self._durations.of_graph(program, kind))
        return running.outputs()

    def _steps(self, work: Work, running: Stepwise, took: Steps) -> Course:
        """Step by step: short ones together, and long ones of best effort in pieces."""
        cuts = self._cuts if work.client.priority is Priority.BEST_EFFORT else None
        while (at := running.at) < len(took):
            end, expected_ns = unit_at(took, at)
            asked = pieces = None
            if cuts is not None and expected_ns > cuts.turnaround_ns:
                asked = running.asked()
                pieces = cuts.pieces(asked)
            ahead = Ahead(expected_ns, () if pieces is None else pieces.profile.cuts())
            run = yield ahead
            if pieces is not None and run.pieces > 1:
                yield from self._in_pieces(running, pieces, ahead, run)
                continue
            began_ns = self._clock.wall_ns()
            running.go_on(end)
            took_ns = self._settled_ns() - began_ns
            note_unit(took, at, end, took_ns)
            if cuts is not None:
                cuts.ran_whole(asked, took_ns)

    def _in_pieces(self, running: Stepwise, pieces: Pieces, ahead: Ahead, run: Run) -> Course:
        """The next step of ``running``, of which ``run`` is to run first."""
        try:
            while True:
                pieces.run(run.begin, run.end)
                self._settled_ns()
                if run.is_last:
                    break
                run = yield ahead
        except Exception as error:  # of any kind
            running.has_failed(error)
        else:
            running.has_given(pieces.result)

    def _settled_ns(self) -> int:
        """Now, when the device is done with what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock.wall_ns()
