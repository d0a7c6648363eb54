"""What a simulated device has in flight, and when each is done.

A device with one slot is simple: a run takes what it takes. With more, those in flight share what
they use, so each start and end changes when the others are done.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.share.policies.contract import Run
from remora.share.simulator.jobs import Contention


@dataclass
class Flight:
    """One run in flight."""

    run: Run
    since_ns: int
    left_ns: float
    """Of its time alone."""
    slowdown: float = 1.0


class Flights:
    """Runs in flight that share a device."""

    def __init__(self, contention: Contention) -> None:
        self._contention = contention
        self._flights: list[Flight] = []
        self._updated_ns = 0

    def start(self, run: Run, duration_ns: int, now_ns: int) -> None:
        self._pass_time(now_ns)
        self._flights.append(Flight(run, now_ns, duration_ns))
        self._share()

    def end(self, now_ns: int) -> Flight:
        """The one that is done first, and is done now."""
        self._pass_time(now_ns)
        first = min(self._flights, key=lambda flight: flight.left_ns * flight.slowdown)
        self._flights.remove(first)
        self._share()
        return first

    def next_end_ns(self) -> int | None:
        """When the first of them is done, if nothing else happens."""
        if not self._flights:
            return None
        left_ns = min(flight.left_ns * flight.slowdown for flight in self._flights)
        return self._updated_ns + max(0, round(left_ns))

    def _pass_time(self, now_ns: int) -> None:
        for flight in self._flights:
            flight.left_ns -= (now_ns - self._updated_ns) / flight.slowdown
        self._updated_ns = now_ns

    def _share(self) -> None:
        """How much each slows down: as many as use the same, and all that do not."""
        for flight in self._flights:
            others = [each.run.unit.resource for each in self._flights if each is not flight]
            resource = flight.run.unit.resource
            beside = sum(resource.complements(other) for other in others)
            flight.slowdown = 1.0 + len(others) - beside
            if beside:
                flight.slowdown *= self._contention.complementing
