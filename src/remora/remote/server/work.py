"""What waits to be computed, for whom, and since when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from remora.remote.messages import Draw, Reply, Wanted
from remora.remote.server.clients import Client
from remora.remote.server.handles import Handles
from remora.remote.server.models import Model
from remora.remote.server.segments import Segment
from remora.remote.server.session import Session

Answer = Callable[[Reply, Sequence[torch.Tensor]], None]
"""Hands an answer to whoever sends it. Never blocks."""


@dataclass(eq=False)
class Work:
    """One request. ``cancelled`` may be set by any thread; it is then dropped unanswered."""

    answer: Answer
    asked_ns: int
    """When it had come; of a later token, when the one before it was given."""
    receive_ns: int
    """From its first byte to its last."""
    profiled: bool
    cancelled: bool = field(default=False, kw_only=True)
    client: Client = field(default=Client(), kw_only=True)
    """Who asked."""


@dataclass(eq=False)
class CallWork(Work):
    """Call a model once."""

    model: Model
    tensors: list[torch.Tensor]
    wanted: tuple[Wanted, ...]
    held: tuple[int, ...]
    """For each input the number that it is kept by, or 0 where it is one of ``tensors``."""
    handles: Handles
    """Of its client."""


@dataclass(eq=False)
class PrefillWork(Work):
    """Read tokens (1, count) into a session, a chunk at a time."""

    session: Session
    tokens: torch.Tensor
    wanted: Wanted
    """Of the logits behind the last token."""
    begun: int = 0
    """Tokens that have been read."""
    execute_ns: int = 0


@dataclass(eq=False)
class GenerateWork(Work):
    """Decode tokens for a session, one at a time."""

    session: Session
    count: int
    """Tokens that are still to come."""
    stop: frozenset[int]
    draw: Draw | None


@dataclass(eq=False)
class RewindWork(Work):
    """Take a session back to its first tokens, once nothing else is done for it."""

    session: Session
    length: int
    unread: int


@dataclass(eq=False)
class ReorderWork(Work):
    """Have sessions go on from where others of them stand."""

    sessions: Sequence[Session]
    sources: Sequence[int]


@dataclass(eq=False)
class SegmentWork(Work):
    """Run a segment, a slice of time at a time."""

    segment: Segment


AnyWork = SegmentWork | RewindWork | ReorderWork | CallWork | PrefillWork | GenerateWork
