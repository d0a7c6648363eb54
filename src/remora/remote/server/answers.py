"""What a request is given once its part is computed, whoever decided that it runs: the beginning
and the end of a call, of a chunk of a prompt and of a token, and when each was."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remora.core.clock import Clock
from remora.remote.graph.plan import check_inputs
from remora.remote.messages import Done, Profile, Ran, Tokens
from remora.remote.server.kept import keep, with_kept
from remora.remote.server.outputs import select, to_keep
from remora.remote.server.work import CallWork, GenerateWork, PrefillWork, Work


def settle(work: Work, device: torch.device) -> None:
    """Before a time is taken that somebody wants: a device works on when its calls return."""
    if work.profiled and device.type == "cuda":
        torch.cuda.synchronize(device)


class Calling:
    """One call of a model: what it is given, and what comes back of it."""

    def __init__(self, work: CallWork, device: torch.device, clock: Clock) -> None:
        self._work, self._device, self._clock = work, device, clock
        self._begun_ns = self._planned_ns = self._placed_ns = 0

    def inputs(self) -> list[torch.Tensor]:
        """On the device, once it is known that they fit and how much memory it takes.

        Raises:
            Refused: they do not, or it takes more than a call may.
        """
        work, self._begun_ns = self._work, self._clock.wall_ns()
        tensors = with_kept(work.handles, work.held, work.tensors)
        check_inputs(work.model.graph.inputs, tensors)
        work.model.planner.needs(tuple(tuple(tensor.shape) for tensor in tensors))
        self._planned_ns = self._clock.wall_ns()
        inputs = [tensor.to(self._device) for tensor in tensors]
        self._placed_ns = self._clock.wall_ns()
        return inputs

    def answer(self, outputs: Sequence[torch.Tensor]) -> None:
        """Send what is wanted of ``outputs``."""
        work = self._work
        settle(work, self._device)
        executed_ns = self._clock.wall_ns()
        selected = select(outputs, work.wanted)
        kept = keep(work.handles, to_keep(outputs, work.wanted))
        selected_ns = self._clock.wall_ns()
        del outputs
        work.tensors = []
        done_ns = self._clock.wall_ns()
        profile = Profile(
            received_ns=work.asked_ns,
            receive_ns=work.receive_ns,
            queue_ns=self._begun_ns - work.asked_ns,
            plan_ns=self._planned_ns - self._begun_ns,
            placement_ns=self._placed_ns - self._planned_ns,
            execute_ns=executed_ns - self._placed_ns,
            output_ns=selected_ns - executed_ns,
            cleanup_ns=done_ns - selected_ns,
            answered_ns=done_ns,
        )
        work.answer(Ran(profile if work.profiled else None, kept), selected)


def is_read(work: PrefillWork, tokens: int, took_ns: int) -> bool:
    """``tokens`` more of the prompt were read; whether it was read to its end."""
    work.begun += tokens
    work.execute_ns += took_ns
    work.session.served += tokens
    return work.begun >= work.tokens.shape[1]


def answer_read(work: PrefillWork, logits: torch.Tensor, now_ns: int) -> None:
    """The prompt was read to its end, and ``logits`` (1, 1, vocabulary) lie behind it."""
    profile = Profile(
        received_ns=work.asked_ns,
        receive_ns=work.receive_ns,
        queue_ns=now_ns - work.asked_ns - work.execute_ns,
        execute_ns=work.execute_ns,
        answered_ns=now_ns,
    )
    work.answer(Done(profile if work.profiled else None), select([logits], [work.wanted]))


def is_last(work: GenerateWork, token: int, now_ns: int) -> bool:
    """``token`` is its session's newest; whether it is the last that was asked for."""
    session = work.session
    session.ready, session.unread = None, token
    work.count -= 1
    work.asked_ns = now_ns
    return work.count <= 0 or token in work.stop


def answer_token(work: GenerateWork, token: int, last: bool, profile: Profile) -> None:
    """Send it as it is decoded."""
    work.answer(Tokens((token,), last, profile if work.profiled else None), [])
