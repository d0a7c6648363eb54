"""A training loop and a disk, simulated: what the tuner is told comes out of what it chose."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from remora.checkpoint.policy import BusyTime, Tuner, Wanted, Written


@dataclass(frozen=True)
class Change:
    """The tuner moved to ``every`` at ``step``, when ``reports`` checkpoints were durable."""

    step: int
    reports: int
    every: int


@dataclass
class Flight:
    """One checkpoint on its way."""

    taken_s: float
    durable_s: float


@dataclass
class Simulation:
    """One writer takes checkpoints in turn; a due one that finds no room is skipped."""

    tuner: Tuner
    step_s: float = 0.25
    state_bytes: int = 480_000_000
    bytes_s: Callable[[int], float] = lambda step: 500e6
    """The disk's true mean rate, by step."""
    step_jitter: float = 0.02
    disk_jitter: float = 0.1
    theft: float = 0.0
    """Share by which writing lengthens the steps meanwhile."""
    stall_s: float = 0.0
    """What a checkpoint keeps the step after it waiting."""
    in_flight: int = 4
    seed: int = 0
    now_s: float = 0.0
    ideal_s: float = 0.0
    """What the same steps would have taken without checkpoints."""
    steps: int = 0
    reports: int = 0
    skipped: int = 0
    changes: list[Change] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    """The steps after which a checkpoint began."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._flights: list[Flight] = []
        self._busy = BusyTime()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._step()

    def overhead(self, steps: int) -> float:
        """Over ``steps`` more steps."""
        now, ideal = self.now_s, self.ideal_s
        self.run(steps)
        return (self.now_s - now) / (self.ideal_s - ideal) - 1

    def _step(self) -> None:
        usual = self.step_s * self._rng.lognormvariate(0, self.step_jitter)
        busy, waited = bool(self._flights), self._waited()
        seconds = usual * (1 + self.theft * busy) + waited
        self.ideal_s += usual
        self.now_s += seconds
        self.steps += 1
        self._land()
        if self.tuner.step(seconds, busy=busy, stall_s=waited):
            self._save()

    def _waited(self) -> float:
        return self.stall_s if self.taken and self.taken[-1] == self.steps else 0.0

    def _land(self) -> None:
        while self._flights and self._flights[0].durable_s <= self.now_s:
            done = self._flights.pop(0)
            self._busy.ended(done.durable_s)
            written = Written(
                size=self.state_bytes,
                busy_s=self._busy.take(done.durable_s),
                latency_s=done.durable_s - done.taken_s,
            )
            before = self.tuner.every
            choice = self.tuner.durable(written)
            self.reports += 1
            if choice and choice.every != before:
                self.changes.append(Change(self.steps, self.reports, choice.every))

    def _save(self) -> None:
        if len(self._flights) == self.in_flight:
            self.skipped += 1
            return
        spread = self.disk_jitter
        rate = self.bytes_s(self.steps) * self._rng.lognormvariate(-spread * spread / 2, spread)
        free_s = self._flights[-1].durable_s if self._flights else self.now_s
        self._flights.append(Flight(self.now_s, free_s + self.state_bytes / rate))
        self._busy.began(self.now_s)
        self.taken.append(self.steps)


def often(**wishes: float) -> Wanted:
    """Failures every minute: then storage and the overhead decide, not the failure rate."""
    return Wanted(mtbf_s=wishes.pop("mtbf_s", 60.0), **wishes)  # type: ignore[arg-type]
