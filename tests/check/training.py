"""Real training loops, learned from and checked in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.measures import SCALER_UPDATE, SCHEDULER_STEP
from remora.check.observe.live import LiveCalls
from remora.check.relations.changes import LEARNED
from remora.check.relations.periodic import LOADER
from remora.check.sink import Sink
from remora.tap.job import Job

Program = Callable[[], object]
WATCHED = (
    *LEARNED, SCHEDULER_STEP, SCALER_UPDATE, LOADER, "torch.nn.Module.eval",
    "torch.nn.functional.cross_entropy",
)  # fmt: skip
OF_VARIABLES = ("changes", "consistent")


def ride(sink: Sink, program: Program, every: int = 1) -> None:
    """Run ``program`` with the calls that may change variables watched for ``sink``."""
    job = Job(strict=True, stderr=io.StringIO())
    live = LiveCalls(job, sink, every=every)
    live.watch(WATCHED)
    live.follow_steps(forwards=True)
    try:
        program()
    finally:
        job.detach_all()


def learn(
    *programs: Program, fewest: int = 3, relations: Sequence[str] = OF_VARIABLES
) -> list[Invariant]:
    """What is learned in runs of ``programs``; if nothing else is said, of variables."""
    learner = InvariantLearner(fewest=fewest)
    for program in programs:
        torch.manual_seed(0)
        ride(learner, program)
        learner.run_ended("test")
    return [one for one in learner.invariants().invariants if one.relation in relations]


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
