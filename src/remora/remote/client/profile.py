"""Where one call spent its time: here, on the way, and there."""

from __future__ import annotations

from dataclasses import dataclass, fields

from remora.remote.messages import Profile
from remora.remote.wire.arrived import Arrived, Sent


@dataclass(frozen=True)
class CallProfile:
    """Parts of a call's latency, in nanoseconds, in the order in which they pass.

    Each is measured by itself, so that their sum shows whether any is missing.
    """

    serialize_ns: int
    """Until the request was ready to be written."""
    network_out_ns: int
    """From then until the server had its last byte."""
    queue_ns: int
    plan_ns: int
    placement_ns: int
    execute_ns: int
    output_ns: int
    cleanup_ns: int
    network_back_ns: int
    """From when the answer was there until its last byte was here."""
    deserialize_ns: int
    """From then until the caller had its outputs."""
    total_ns: int
    """From the call to its return, measured as one."""

    @property
    def sum_ns(self) -> int:
        """All parts together."""
        parts = [int(getattr(self, field.name)) for field in fields(self)]
        return sum(parts) - self.total_ns


def call_profile(
    begun_ns: int, sent: Sent, arrived: Arrived, ended_ns: int, ahead_ns: int
) -> CallProfile:
    """The parts of a call that was made at ``begun_ns`` and returned at ``ended_ns``.

    Args:
        ahead_ns: how far the server's clock is ahead of the one here.
    """
    there: Profile = arrived.message.profile
    return CallProfile(
        serialize_ns=sent.encoded_ns - begun_ns,
        network_out_ns=there.received_ns - ahead_ns - sent.encoded_ns,
        queue_ns=there.queue_ns,
        plan_ns=there.plan_ns,
        placement_ns=there.placement_ns,
        execute_ns=there.execute_ns,
        output_ns=there.output_ns,
        cleanup_ns=there.cleanup_ns,
        network_back_ns=arrived.ended_ns - (there.answered_ns - ahead_ns),
        deserialize_ns=ended_ns - arrived.ended_ns,
        total_ns=ended_ns - begun_ns,
    )


def ahead_of(asked_ns: int, there: Profile, answered_ns: int) -> tuple[int, int]:
    """From one echo: how long it took, and how far the server's clock is ahead, at best guess.

    Both ways are supposed to take as long (NTP, RFC 5905, section 8).
    """
    ahead = ((there.received_ns - asked_ns) + (there.answered_ns - answered_ns)) // 2
    return answered_ns - asked_ns, ahead
