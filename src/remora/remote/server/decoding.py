"""Reading and decoding tokens: of one sequence, or of several at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remora.remote.server.models import Model
from remora.remote.server.session import Session


def read(session: Session, tokens: torch.Tensor) -> torch.Tensor:
    """Read ``tokens`` (1, count) behind what the session holds.

    Returns the logits behind the last of them, (1, 1, vocabulary).
    """
    return was_read(session, tokens, session.model.program.run(read_inputs(session, tokens)))


def read_inputs(session: Session, tokens: torch.Tensor) -> list[torch.Tensor]:
    """What its model is given to read ``tokens``.

    Raises:
        Refused: it takes more memory than a call may.
    """
    model, count = session.model, tokens.shape[1]
    positions = torch.arange(session.length, session.length + count, device=tokens.device)[None]
    mask = model.mask_for(count, session.length, torch.zeros_like(tokens[:, 0]))
    model.plan_step(1, count, session.length)
    return [tokens, positions, mask, *session.context, *session.state]


def was_read(
    session: Session, tokens: torch.Tensor, outputs: Sequence[torch.Tensor]
) -> torch.Tensor:
    """``tokens`` have been read, with those ``outputs``; gives the logits as :func:`read` does."""
    logits, *state = outputs
    session.state = state
    session.length += tokens.shape[1]
    behind: torch.Tensor = logits
    return behind


class Batch:
    """Sequences of one model that decode together, one token each at a time.

    Their states lie in common tensors, shorter ones to the right, so that a new token is appended
    to all at the same place; what lies left of a sequence is masked. While no sequence joins or
    leaves nothing is copied but what attention itself appends.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._sessions: list[Session] = []
        self._state: list[torch.Tensor] = []
        self._context: list[torch.Tensor] = []
        self._pads: torch.Tensor = torch.empty(0)

    def step(self, sessions: Sequence[Session]) -> torch.Tensor:
        """Read the ``unread`` token of each; gives the logits behind them (batch, vocabulary)."""
        if list(sessions) != self._sessions:
            self.part()
            if len(sessions) == 1:
                return _decode_alone(sessions[0])
            self._join(sessions)
        return self._decode_all()

    def holds(self, session: Session) -> bool:
        """Whether its state lies in the common tensors."""
        return session in self._sessions

    def part(self) -> None:
        """Give every sequence its own state again."""
        for index, session in enumerate(self._sessions):
            if not session.closed:
                session.state = [
                    tensor[index : index + 1, :, tensor.shape[2] - session.length :].clone()
                    for tensor in self._state
                ]
        self._sessions, self._state, self._context = [], [], []

    def _join(self, sessions: Sequence[Session]) -> None:
        longest = max(session.length for session in sessions)
        self._sessions = list(sessions)
        self._state = [
            torch.cat([_padded(session.state[index], longest) for session in sessions])
            for index in range(len(sessions[0].state))
        ]
        self._context = [
            torch.cat(each) for each in zip(*(s.context for s in sessions), strict=True)
        ]
        device = self._state[0].device
        self._pads = torch.tensor([longest - s.length for s in sessions], device=device)
        for session in sessions:
            session.state = []

    def _decode_all(self) -> torch.Tensor:
        sessions, held = self._sessions, self._state[0].shape[2]
        device = self._pads.device
        tokens = torch.tensor([[session.unread] for session in sessions], device=device)
        positions = torch.tensor([[session.length] for session in sessions], device=device)
        mask = self.model.mask_for(1, held, self._pads)
        self.model.plan_step(len(sessions), 1, held)
        inputs = [tokens, positions, mask, *self._context, *self._state]
        logits, *self._state = self.model.program.run(inputs)
        for session in sessions:
            session.length += 1
        behind: torch.Tensor = logits[:, -1]
        return behind


def _decode_alone(session: Session) -> torch.Tensor:
    unread = torch.tensor([[session.unread]], device=session.state[0].device)
    return read(session, unread)[:, -1]


def _padded(state: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(state, (0, 0, length - state.shape[2], 0))
