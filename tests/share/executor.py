"""A small executor that does what the contract says, and keeps a log that tests can judge."""

from __future__ import annotations

from dataclasses import dataclass, field

from remora.share.policies.contract import (
    Cut,
    Decision,
    Policy,
    Priority,
    Resource,
    Run,
    Unit,
    WaitUntil,
)

MS = 1_000_000
HIGH, BEST_EFFORT = Priority.HIGH, Priority.BEST_EFFORT


def high(ns: int = 10 * MS, job: str = "serve", deadline_ns: int | None = None) -> Unit:
    return Unit(job, HIGH, ns, deadline_ns, Resource.COMPUTE)


def best_effort(ns: int = 44 * MS, job: str = "train", *piece_ns: int) -> Unit:
    """``piece_ns`` are the longest pieces of cuts into 2, 4, 8 … pieces."""
    cuts = tuple(Cut(2 ** (index + 1), each) for index, each in enumerate(piece_ns))
    return Unit(job, BEST_EFFORT, ns, None, Resource.MEMORY, cuts)


@dataclass
class Started:
    """A run that the device was given, and what had come to pass until then."""

    at_ns: int
    run: Run
    end_ns: int
    high_absent_ns: int | None
    waiting: list[Unit]
    """What waited, it included, in the order in which it came."""
    until_ns: int = -1
    """When it left the device: its end, or when its job left."""


@dataclass
class Executor:
    """One device; every run takes exactly what is expected of it."""

    policy: Policy
    now_ns: int = 0
    waiting: list[Unit] = field(default_factory=list)
    flying: list[Started] = field(default_factory=list)
    log: list[Started] = field(default_factory=list)
    submitted_ns: dict[Unit, int] = field(default_factory=dict)
    calls: list[tuple[str, object, int]] = field(default_factory=list)
    """Whatever the policy was told and asked, with the answers."""
    high_ended_ns: int | None = None
    decision: Decision | None = None

    def submit(self, *units: Unit) -> None:
        for unit in units:
            self.waiting.append(unit)
            self.submitted_ns[unit] = self.now_ns
            self._tell("submitted", unit)
        self._settle()

    def leave(self, job: str) -> None:
        gone = [each for each in self.flying if each.run.unit.job == job]
        had_high = self._has_high()
        for each in gone:
            each.until_ns = self.now_ns
            self.flying.remove(each)
        self.waiting = [unit for unit in self.waiting if unit.job != job]
        self._note_high(had_high)
        self._tell("left", job)
        self._settle()
        for each in gone:  # late news
            self._tell("finished", each.run)

    def advance(self, ns: int) -> None:
        """Let time pass, and do all that happens in it."""
        until_ns = self.now_ns + ns
        while (at_ns := self._next_event_ns()) is not None and at_ns <= until_ns:
            self.now_ns = max(self.now_ns, at_ns)
            over = [each for each in self.flying if each.end_ns <= self.now_ns]
            for each in over:
                self._finish(each)
            self._settle()
        self.now_ns = until_ns

    def runs(self) -> list[tuple[float, str, int, int]]:
        """When (ms), which job, which pieces."""
        return [(s.at_ns / MS, s.run.unit.job, s.run.begin, s.run.end) for s in self.log]

    # ------------------------------------------------- within

    def _next_event_ns(self) -> int | None:
        events = [each.end_ns for each in self.flying]
        if isinstance(self.decision, WaitUntil):
            events.append(self.decision.at_ns)
        return min(events, default=None)

    def _finish(self, each: Started) -> None:
        had_high = self._has_high()
        self.flying.remove(each)
        each.until_ns = self.now_ns
        if not each.run.is_last:
            self.waiting.insert(0, each.run.unit)
        self._note_high(had_high)
        self._tell("finished", each.run)

    def _has_high(self) -> bool:
        units = [*self.waiting, *(each.run.unit for each in self.flying)]
        return any(unit.priority is HIGH for unit in units)

    def _note_high(self, had_high: bool) -> None:
        if had_high and not self._has_high():
            self.high_ended_ns = self.now_ns

    def high_absent_ns(self) -> int | None:
        if self._has_high():
            return 0
        return None if self.high_ended_ns is None else self.now_ns - self.high_ended_ns

    def _settle(self) -> None:
        while True:
            self.decision = decision = self.policy.next(self.now_ns)
            self.calls.append(("next", decision, self.now_ns))
            if not isinstance(decision, Run):
                return
            started = Started(
                self.now_ns, decision, self.now_ns + decision.expected_ns,
                self.high_absent_ns(), list(self.waiting),
            )  # fmt: skip
            self.waiting.remove(decision.unit)
            self.flying.append(started)
            self.log.append(started)
            self._tell("started", decision)

    def _tell(self, what: str, subject: object) -> None:
        self.calls.append((what, subject, self.now_ns))
        getattr(self.policy, what)(subject, self.now_ns)
