"""Real programs, learned from and checked in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.observe.live import LiveCalls
from remora.check.observe.watchlist import public_functions
from remora.check.sink import Sink
from remora.tap.job import Job

Program = Callable[[], object]


def learned_from(*programs: Program, also: Sequence[str] = ()) -> list[Invariant]:
    """What is learned of programs; ``also`` watches functions of their own."""
    learner = InvariantLearner()
    for program in programs:
        _ride(learner, [*public_functions(), *also], program)
        learner.run_ended("program")
    return list(learner.invariants().invariants)


def found_in(program: Program, invariants: Sequence[Invariant]) -> list[Finding]:
    findings: list[Finding] = []
    checker = Checker(invariants, findings.append)
    _ride(checker, sorted(checker.functions), program)
    return findings


def of(relation: str, invariants: Sequence[Invariant]) -> list[Invariant]:
    return [one for one in invariants if one.relation == relation]


def seen(findings: Sequence[Finding]) -> set[str]:
    return {f"{one.invariant.claim.words()}: {one.seen}" for one in findings}


def _ride(sink: Sink, names: Sequence[str], program: Program) -> None:
    job = Job(strict=True)
    try:
        live = LiveCalls(job, sink)
        live.watch(names)
        live.follow_steps(forwards=True)
        program()
    finally:
        with job.calls.together():  # one pass over the modules, not one a function
            job.detach_all()
