"""Hold invariants against runs that are known to be healthy, and drop those that fail there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariants
from remora.check.sink import Sink


class HasSteps(Protocol):
    """A run that was played."""

    @property
    def steps(self) -> int: ...


Run = TypeVar("Run", bound=HasSteps, covariant=True)
Play = Callable[[Sink], Run]
"""Feeds a recorded run to a sink."""


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


def validate(invariants: Invariants, runs: Iterable[tuple[str, Play[Run]]]) -> Validated[Run]:
    """Keep what holds throughout every one of ``runs``, each given with what to call it.

    An invariant that a run never judges is kept.
    """
    trials: list[Trial[Run]] = []
    for called, run in runs:
        failed, played = _failures(invariants, run)
        trials.append(Trial(played, tuple(failed_in(one, called) for one in failed.values())))
        invariants = without(invariants, failed)
    return Validated(invariants, tuple(trials))


def without(invariants: Invariants, names: Iterable[str]) -> Invariants:
    """All but those called ``names``."""
    gone = frozenset(names)
    kept = tuple(one for one in invariants.invariants if one.name not in gone)
    return msgspec.structs.replace(invariants, invariants=kept)


def _failures(invariants: Invariants, run: Play[Run]) -> tuple[dict[str, Finding], Run]:
    """The first finding of each that does not hold, by name."""
    found: dict[str, Finding] = {}

    def keep(finding: Finding) -> None:
        found.setdefault(finding.invariant.name, finding)

    played = run(Checker(invariants.invariants, keep))
    return found, played


def failed_in(finding: Finding, run: str) -> Dropped:
    """What is said of an invariant that ``finding`` is against."""
    why = f"it does not hold in step {finding.step} of {run}: {finding.seen}"
    return Dropped(finding.invariant.name, finding.invariant.words(), why)
