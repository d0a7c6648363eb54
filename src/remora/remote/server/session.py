"""One session: what a language model has read of one text so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from remora.core.errors import BadValue
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
        self.on_host = False
        """Whether its state was moved off the device, to make room."""
        self.closed = False

    def rewind(self, length: int, unread: int) -> None:
        """Forget all behind the first ``length`` tokens; ``unread`` comes next.

        Raises:
            BadValue: it holds fewer.
        """
        if not 0 <= length <= self.length:
            raise BadValue(f"this session holds {self.length} tokens; it cannot keep {length}")
        self.state = [_first(tensor, length) for tensor in self.state]
        self.length, self.ready, self.unread = length, None, unread

    def standing(self) -> Standing:
        """Where it stands in its text."""
        place = (self.length, self.ready, self.unread)
        return Standing(self.state, self.context, *place, self.on_host)

    def stand(self, standing: Standing) -> None:
        """Go on from there. A state is never written to, so two may have it."""
        self.state, self.context, self.length, self.ready, self.unread, self.on_host = standing

    def move(self, device: torch.device) -> None:
        """Have all that it holds on ``device``."""
        self.state = [tensor.to(device) for tensor in self.state]
        self.context = [tensor.to(device) for tensor in self.context]
        self.ready = None if self.ready is None else self.ready.to(device)

    @property
    def state_bytes(self) -> int:
        """What its state, its context and the logits of its next token take."""
        context_bytes = sum(tensor.nbytes for tensor in self.context)
        ready_bytes = 0 if self.ready is None else self.ready.nbytes
        return self.length * self.model.token_bytes + context_bytes + ready_bytes


class Standing(NamedTuple):
    """Where a session stands in its text; of the same names as there."""

    state: list[torch.Tensor]
    context: Sequence[torch.Tensor]
    length: int
    ready: torch.Tensor | None
    unread: int | None
    on_host: bool


def _first(state: torch.Tensor, length: int) -> torch.Tensor:
    """The first ``length`` tokens of it. A small part does not hold on to all of the memory."""
    part = state[:, :, :length]
    return part.clone() if 2 * part.nbytes < state.untyped_storage().nbytes() else part
