"""What a checkpointer has done so far."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Counts and times since the checkpointer was made."""

    committed: int = 0
    """Acknowledged as durable."""
    skipped: int = 0
    """Due, but storage had not finished those in flight (``when_slow="skip"``)."""
    superseded: int = 0
    """Begun, then given up for a newer one, or finished after all that are kept."""
    failed: int = 0
    """Not written because storage failed; the last whole one stayed."""
    bytes_written: int = 0
    """Of state, in committed checkpoints."""
    stall_ns: array[int] = field(default_factory=lambda: array("q"))
    """For each checkpoint begun, how long the training thread waited for it in all."""
    stalled_ns: int = 0
    """The sum of those."""
    durable_ns: array[int] = field(default_factory=lambda: array("q"))
    """For each committed one, from its beginning until it was durable."""
    last_step: int | None = None
    """The newest acknowledged."""

    def stalled(self, nanoseconds: int) -> None:
        """Training has waited so much longer for the checkpoint begun last."""
        self.stall_ns[-1] += nanoseconds
        self.stalled_ns += nanoseconds
