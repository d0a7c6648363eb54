"""Hold invariants against runs that are known to be healthy, and drop those that fail there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariants
from remora.check.ranks.meeting import Meeting
from remora.check.sink import Sink


class HasSteps(Protocol):
    """A run that was played."""

    @property
    def steps(self) -> int: ...


Run = TypeVar("Run", bound=HasSteps, covariant=True)
Play = Callable[[Sink], Run]
"""Feeds a recorded run to a sink."""


class Healthy(NamedTuple, Generic[Run]):
    """A run that is known to be healthy, or one rank of it."""

    called: str
    play: Play[Run]
    meeting: Meeting | None = None
    """Where it meets the other ranks, which are the runs before and after it."""


@dataclass(frozen=True)
class Dropped:
    """An invariant that is not kept, and why."""

    name: str
    words: str
    why: str

    def line(self) -> str:
        return f"dropped [{self.name}] {self.words}: {self.why}"


@dataclass(frozen=True)
class Trial(Generic[Run]):
    """One run, and what was dropped for it."""

    run: Run
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class Validated(Generic[Run]):
    kept: Invariants
    trials: tuple[Trial[Run], ...]

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return tuple(one for trial in self.trials for one in trial.dropped)


def validate(invariants: Invariants, runs: Iterable[Healthy[Run]]) -> Validated[Run]:
    """Keep what holds throughout every one of ``runs``.

    An invariant that a run never judges is kept.
    """
    trials: list[Trial[Run]] = []
    for run in runs:
        failed, played = _failures(invariants, run)
        trials.append(Trial(played, tuple(failed_in(one, run.called) for one in failed.values())))
        invariants = without(invariants, failed)
    return Validated(invariants, tuple(trials))


def without(invariants: Invariants, names: Iterable[str]) -> Invariants:
    """All but those called ``names``."""
    gone = frozenset(names)
    kept = tuple(one for one in invariants.invariants if one.name not in gone)
    return msgspec.structs.replace(invariants, invariants=kept)


def failures(invariants: Invariants, runs: Iterable[Healthy[Run]]) -> list[Finding]:
    """The first finding of each invariant that fails in one of ``runs``."""
    found: dict[str, Finding] = {}
    for run in runs:
        found = {**_failures(invariants, run)[0], **found}
    return list(found.values())


def _failures(invariants: Invariants, run: Healthy[Run]) -> tuple[dict[str, Finding], Run]:
    """The first finding of each that does not hold, by name."""
    found: dict[str, Finding] = {}

    def keep(finding: Finding) -> None:
        found.setdefault(finding.invariant.name, finding)

    checker = Checker(invariants.invariants, keep)
    if run.meeting is not None:
        checker.join(run.meeting)
    return found, run.play(checker)


def failed_in(finding: Finding, run: str) -> Dropped:
    """What is said of an invariant that ``finding`` is against."""
    why = f"it does not hold in step {finding.step} of {run}: {finding.seen}"
    return Dropped(finding.invariant.name, finding.invariant.words(), why)
