"""What the policy is told and what it answers: measured facts, wishes, a choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from remora.checkpoint.arguments import CHUNK_BYTES
from remora.checkpoint.policy import wording
from remora.core.errors import BadValue

LimitedBy = Literal["bandwidth", "overhead", "failure rate", "memory", "in flight", "nothing"]
"""Which rule decided the interval; "nothing" where every rule allows a checkpoint every step."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What training and storage were seen to do. Seconds, bytes, bytes per second."""

    step_s: float
    """A step's wall time while no checkpoint is being copied or written."""
    state_bytes: int
    """What one checkpoint writes."""
    sustained_write_bytes_s: float
    """Bytes made durable over the seconds that storage was busy with them, over many checkpoints.
    Not the best one: on the disks measured, bursts are 2 to 3 times faster than what lasts."""
    copy_bytes_s: float = math.inf
    """From the training state into the staging buffers."""
    stall_s: float = 0.0
    """How long one checkpoint keeps a step waiting."""
    cost_s: float = 0.0
    """By how much one checkpoint lengthens training in all: its stall and what copying and writing
    take from the steps meanwhile."""
    latency_s: float = 0.0
    """From the step that a checkpoint holds until that checkpoint is durable."""

    @property
    def seen_cost_s(self) -> float:
        """Seconds that one checkpoint adds: never less than the wait that was seen."""
        return max(self.cost_s, self.stall_s)

    def __post_init__(self) -> None:
        _positive("step_s", self.step_s)
        _positive("state_bytes", self.state_bytes)
        _positive("sustained_write_bytes_s", self.sustained_write_bytes_s)
        _positive("copy_bytes_s", self.copy_bytes_s, endless=True)
        for name in ("stall_s", "cost_s", "latency_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise BadValue(f"{name}={value!r} is not a duration; give seconds, 0 or more")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asks for, each with a default and its reason."""

    max_overhead: float = 0.02
    """Largest share that checkpoints may add to the time of training."""
    mtbf_s: float = 6 * 3600.0
    """Mean time between failures. Six hours: a pessimist's cloud machine. With checkpoints as
    cheap as these it seldom decides."""
    negligible: float = 0.001
    """An overhead this small is no reason for a longer interval: below it, losing less work counts
    for more than saving time. 0 asks for Young and Daly's optimum to the letter."""
    memory_bytes: int | None = None
    """Budget for staging; None: as many whole states as are in flight."""
    in_flight: int = 4
    """At most so many checkpoints on their way at once."""
    headroom: float = 0.05
    """Share of the sustained bandwidth left unspent: a queue that is always full only grows."""

    def __post_init__(self) -> None:
        _positive("max_overhead", self.max_overhead)
        _positive("mtbf_s", self.mtbf_s)
        if self.memory_bytes is not None:
            _positive("memory_bytes", self.memory_bytes)
        if self.in_flight < 1:
            raise BadValue(f"in_flight={self.in_flight!r} lets nothing be saved; choose 1 or more")
        for name in ("headroom", "negligible"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise BadValue(f"{name}={value!r} is not a share; choose from 0 to below 1")


@dataclass(frozen=True)
class Setting:
    """How one checkpoint is written: so many threads, each a chunk at a time."""

    threads: int = 1
    chunk_bytes: int = CHUNK_BYTES
    """16 MiB: large enough for direct I/O to reach full speed, small enough to overlap."""

    def __post_init__(self) -> None:
        _positive("threads", self.threads)
        _positive("chunk_bytes", self.chunk_bytes)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The least interval that each rule allows, in steps, before rounding up."""

    bandwidth: float
    overhead: float
    memory: float
    in_flight: float
    failure_rate: float
    """Not a bound but where least is lost in all; below 1 where a checkpoint is free."""

    @property
    def hard(self) -> float:
        """The largest of those that must hold whatever the failure rate."""
        return max(self.bandwidth, self.overhead, self.memory, self.in_flight)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How often and how to save, and what that is expected to cost."""

    every: int
    """Steps from one checkpoint to the next."""
    in_flight: int
    threads: int
    chunk_bytes: int
    cost_s: float
    """What one checkpoint is expected to add to training."""
    expected_overhead: float
    """Share that checkpoints add to the time of training."""
    expected_lost_s: float
    """Training time that a failure undoes, on average; restarting and loading come on top."""
    limited_by: LimitedBy
    bounds: Bounds
    measured: Measured
    wanted: Wanted

    @property
    def interval_s(self) -> float:
        """Seconds from one checkpoint to the next."""
        return self.every * self.measured.step_s + self.cost_s

    def sentence(self) -> str:
        """Why, in one line."""
        return wording.sentence(self)


def _positive(name: str, value: float, *, endless: bool = False) -> None:
    if not (0 < value < math.inf or (endless and value == math.inf)):
        raise BadValue(f"{name}={value!r} is not a positive number; measure it, or leave it out")
