"""The common case as a simulation: one job that serves, beside one that trains, on many devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from remora.core.errors import BadValue
from remora.core.units import format_seconds
from remora.share.arrivals.contract import Arrivals
from remora.share.arrivals.poisson import Poisson
from remora.share.policies.contract import Cut, Policy, Priority, Resource, Unit
from remora.share.policies.fifo import Fifo
from remora.share.simulator.jobs import Contention, Device, Job, Piece

SERVES, TRAINS = "serve", "train"


@dataclass(frozen=True)
class Scenario:
    """A high-priority job with ``load`` of the device, and a best-effort job that wants it all.

    Raises:
        BadValue: times that are not positive, or a load at which the job alone would not keep up.
    """

    high_latency_ns: int
    """One request alone, from its beginning to its end."""
    load: float
    """Requests that come, over those that one device alone could do."""
    best_effort_ns: int
    """One best-effort unit, alone and whole."""
    high_units: int = 10
    """Units of a request: a program gives a device its work in pieces, not at once."""
    high_gap_ns: int = 20_000
    """Between two of them the program needs so long: the order of a launch from Python."""
    most_slices: int = 1024
    """Into how many pieces a best-effort unit can be cut."""
    slice_cost_ns: int = 16_000
    """What each slice costs beyond its share: 2 % at the 0.81 ms of published slices of columns."""
    arrivals: Arrivals = field(default_factory=Poisson)
    duration_ns: int = 60_000_000_000
    """Of each device: 3,000 requests of 10 ms at half load."""
    devices: int = 4
    """Each with its own arrivals."""
    seed: int = 0
    complementing: float = 1.0
    """How much the two slow each other down that run at once, where a policy lets them."""

    def __post_init__(self) -> None:
        for name in ("high_latency_ns", "best_effort_ns", "duration_ns"):
            if getattr(self, name) <= 0:
                word = name.removesuffix("_ns").replace("_", " ")
                raise BadValue(f"{word} of {getattr(self, name)} ns: choose a positive time")
        for name in ("high_units", "devices", "most_slices"):
            if getattr(self, name) < 1:
                word = name.replace("_", " ")
                raise BadValue(f"{word} of {getattr(self, name)}: choose 1 or more")
        if not 0 < self.load < 1:
            raise BadValue(
                f"load={self.load:g}: at 1 the high-priority job alone would not keep up; "
                "choose a share between 0 and 1"
            )
        if self.high_unit_ns <= 0:
            raise BadValue(
                f"{self.high_units} units with {format_seconds(self.high_gap_ns / 1e9)} between "
                f"them do not fit in a request of {format_seconds(self.high_latency_ns / 1e9)}; "
                "choose fewer units or a shorter gap"
            )

    @property
    def high_unit_ns(self) -> int:
        """One of the units of a request."""
        gaps_ns = (self.high_units - 1) * self.high_gap_ns
        return (self.high_latency_ns - gaps_ns) // self.high_units

    @cached_property
    def best_effort_unit(self) -> Unit:
        """As a policy sees it."""
        piece = self._best_effort_piece
        return Unit(
            TRAINS, Priority.BEST_EFFORT, piece.expected_ns, None, piece.resource, piece.cuts
        )

    @cached_property
    def _best_effort_piece(self) -> Piece:
        cuts = tuple(
            Cut(count, -(-self.best_effort_ns // count) + self.slice_cost_ns)
            for count in range(2, self.most_slices + 1)
        )
        return Piece(self.best_effort_ns, Resource.MEMORY, cuts)

    def under(self, policy: Callable[[], Policy]) -> Iterator[Device]:
        """Both jobs on every device. Whatever the policy, the same requests come."""
        train = Job(TRAINS, Priority.BEST_EFFORT, (self._best_effort_piece,))
        for serve in self._serving():
            yield self._device((serve, train), policy)

    def alone(self) -> Iterator[Device]:
        """The high-priority job alone on every device, with the same requests."""
        for serve in self._serving():
            yield self._device((serve,), Fifo)

    def _serving(self) -> Iterator[Job]:
        pieces = (Piece(self.high_unit_ns, Resource.COMPUTE),) * self.high_units
        per_second = self.load * 1e9 / self.high_latency_ns
        for device in range(self.devices):
            moments = self.arrivals.draw(per_second, self.duration_ns, self.seed + device)
            yield Job(SERVES, Priority.HIGH, pieces, moments, gap_ns=self.high_gap_ns)

    def _device(self, jobs: tuple[Job, ...], policy: Callable[[], Policy]) -> Device:
        return Device(jobs, policy, self.duration_ns, Contention(self.complementing))
