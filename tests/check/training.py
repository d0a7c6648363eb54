"""Real training loops, learned from and checked in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.observe.live import LiveCalls
from remora.check.relations.changes import LEARNED
from remora.check.sink import Sink
from remora.tap.job import Job

Program = Callable[[], object]


def ride(sink: Sink, program: Program) -> None:
    """Run ``program`` with the calls that may change variables watched for ``sink``."""
    job = Job(strict=True, stderr=io.StringIO())
    live = LiveCalls(job, sink)
    live.watch(LEARNED)
    live.follow_steps(forwards=True)
    try:
        program()
    finally:
        job.detach_all()


def learn(*programs: Program, fewest: int = 3) -> list[Invariant]:
    """What is learned of variables in runs of ``programs``."""
    learner = InvariantLearner(fewest=fewest)
    for program in programs:
        torch.manual_seed(0)
        ride(learner, program)
        learner.run_ended("test")
    return [
        one for one in learner.invariants().invariants
        if one.relation in ("changes", "consistent")
    ]  # fmt: skip


def check(invariants: Sequence[Invariant], program: Program) -> list[Finding]:
    """What is found in a run of ``program``."""
    findings: list[Finding] = []
    torch.manual_seed(0)
    ride(Checker(invariants, findings.append), program)
    return findings


def words(invariants: Sequence[Invariant]) -> set[str]:
    """What is said, the functions by their last two names."""
    return {
        " ".join(".".join(word.split(".")[-2:]) if word.startswith("torch.") else word
                 for word in one.words().split())
        for one in invariants
    }  # fmt: skip


def first(findings: Sequence[Finding], contains: str = "") -> Finding:
    """The first finding whose invariant says ``contains``."""
    return next(one for one in findings if contains in one.invariant.words())
