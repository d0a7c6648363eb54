"""What is simulated: jobs of units on a device under a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue
from remora.share.arrivals.contract import Moments
from remora.share.policies.contract import Cut, Policy, Priority, Resource


@dataclass(frozen=True)
class Piece:
    """One unit of a request or of a training step, as the device finds it."""

    expected_ns: int
    resource: Resource = Resource.UNKNOWN
    cuts: tuple[Cut, ...] = ()

    def __post_init__(self) -> None:
        if self.expected_ns <= 0:
            raise BadValue(f"a unit of {self.expected_ns} ns is no work; choose a positive time")


@dataclass(frozen=True, eq=False)
class Job:
    """A program that does one request after another, each a sequence of units.

    With ``arrivals_ns`` it serves: requests come when they come, and wait for those before them.
    Without, it trains: the next step begins when the last is done.
    """

    name: str
    priority: Priority
    pieces: tuple[Piece, ...]
    arrivals_ns: Moments | None = None
    gap_ns: int = 0
    """Between two units the program itself needs so long to prepare the next."""
    durations_ns: NDArray[np.int64] | None = None
    """How long each unit really takes, shape (requests, units), from the top again where requests
    outnumber rows; as expected if None."""
    deadline_ns: int | None = None
    """How long after its arrival a request should be done."""

    def __post_init__(self) -> None:
        if not self.pieces:
            raise BadValue(f"job {self.name} has no units; give at least one")
        shape = None if self.durations_ns is None else self.durations_ns.shape
        if shape is not None and (len(shape) != 2 or shape[1] != len(self.pieces) or not shape[0]):
            raise BadValue(
                f"job {self.name}: durations of shape {shape}; "
                f"give (requests, {len(self.pieces)}), a column for each unit"
            )


@dataclass(frozen=True)
class Contention:
    """How much units slow each other down that a device has at the same time.

    Those that use the same resource share it in equal parts. Those that complement each other slow
    down by ``complementing`` each: 1, the best case, unless measured. A unit of which nobody knows
    what it uses is taken to use both.
    """

    complementing: float = 1.0

    def __post_init__(self) -> None:
        if self.complementing < 1:
            raise BadValue(
                f"complementing={self.complementing!r}: two units at once are no faster than each "
                "alone; choose 1 (the best case) or more"
            )


@dataclass(frozen=True)
class Device:
    """Jobs that share a device, for ``duration_ns``."""

    jobs: tuple[Job, ...]
    policy: Callable[[], Policy]
    duration_ns: int
    contention: Contention = Contention()

    def __post_init__(self) -> None:
        names = [job.name for job in self.jobs]
        if len(set(names)) < len(names):
            raise BadValue(f"two jobs have one name among {', '.join(names)}; name each its own")
        if self.duration_ns <= 0:
            raise BadValue(f"{self.duration_ns} ns is no time; simulate for a positive one")
