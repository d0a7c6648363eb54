"""Complementary co-running: best-effort work beside high-priority work of the other kind.

A unit that computes and one that moves memory leave each other nearly alone, so both are given to
the device at once. What is in flight of best-effort work is capped in time, because that is what a
high-priority unit of the same kind would have to share the device with. After Orion (EuroSys'24).
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.core.errors import BadValue
from remora.share.policies.by_class import ByClass, ByClassOptions
from remora.share.policies.contract import IDLE, Decision, Priority, Unit, whole


@dataclass(frozen=True)
class ComplementaryOptions(ByClassOptions):
    """How much may be in flight."""

    in_flight_ns: int = 1_000_000
    """Best-effort time in flight, summed over expected durations: a request of 10 ms that comes
    finds at most a tenth of its own time there. A longer unit runs only on an idle device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_flight_ns <= 0:
            raise BadValue(
                f"in_flight={self.in_flight_ns} ns lets nothing run beside anything; "
                "choose a positive time such as 1ms, or the policy priority"
            )


class Complementary(ByClass):
    """Best-effort work beside high-priority work that leaves room for it.

    Below a capacity of 2 nothing runs beside anything, and what is left is priority with a check
    that nothing else is in flight.
    """

    name = "complementary"
    title = "best effort beside high priority where they use different resources"
    options_type = ComplementaryOptions

    def __init__(self, options: ComplementaryOptions | None = None, *, capacity: int = 2) -> None:
        super().__init__(options, capacity=capacity)
        self._in_flight_ns = (options or ComplementaryOptions()).in_flight_ns
        self.most_best_effort = max(1, capacity - 1)
        """A slot is kept for the high-priority unit that comes next."""

    def _offer(self, unit: Unit, now_ns: int) -> Decision:
        if not self._flying:
            return whole(unit)
        flying_ns = sum(run.expected_ns for run in self._flying_since)
        fits = 0 < unit.expected_ns <= self._in_flight_ns - flying_ns
        return whole(unit) if fits and self._complements(unit) else IDLE

    def _complements(self, unit: Unit) -> bool:
        """Whether it leaves every high-priority unit in flight alone."""
        return all(
            unit.resource.complements(run.unit.resource)
            for run in self._flying
            if run.unit.priority is Priority.HIGH
        )
