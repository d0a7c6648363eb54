"""What a checkpointer has done so far."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from remora.core.units import format_bytes, format_seconds


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

    def sentence(self) -> str:
        """What there is to say at the end of a job."""
        if not self.committed:
            return f"no checkpoint was committed{self._others()}"
        size = format_bytes(self.bytes_written / self.committed)
        wait = format_seconds(self.stalled_ns / max(len(self.stall_ns), 1) / 1e9)
        return (
            f"{self.committed:,} checkpoints of {size} committed, the last of step "
            f"{self.last_step:,}; training waited {wait} for each{self._others()}"
        )

    def _others(self) -> str:
        counts = (
            (self.skipped, "skipped"),
            (self.superseded, "superseded"),
            (self.failed, "failed"),
        )
        return "".join(f"; {count:,} {what}" for count, what in counts if count)

    def stalled(self, nanoseconds: int) -> None:
        """Training has waited so much longer for the checkpoint begun last."""
        self.stall_ns[-1] += nanoseconds
        self.stalled_ns += nanoseconds
