"""What became of one case: pure data, from the reports of the two checks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from remora.check.report import Violation
from remora.experiments.silent_issues.cases import Case


class Outcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One row of the table."""

    issue: str
    program: str
    wrong: str
    published: str
    from_step: int
    caught: bool
    """By an invariant that speaks of the fault, not before it, and not on the healthy twin."""
    step: int | None = None
    """The first step at which it was; None where it was not."""
    relation: str | None = None
    invariant: str | None = None
    """In words."""
    seen: str | None = None
    where: str | None = None
    others: list[str] = []
    """What else did not hold from the fault on, in words."""
    invariants: int = 0
    """How many were checked."""
    false_alarms: list[str] = []
    """Violated by the healthy twin under another seed, or by the faulty one before its fault."""
    again: list[bool] = []
    """Whether it was caught as well under each further seed, and in a model of another size."""
    seconds: float = 0.0
    trouble: str | None = None
    """Why there is no verdict, where there is none."""

    @property
    def on_time(self) -> bool:
        return self.step == self.from_step


def judged(
    case: Case,
    faulty: Sequence[Violation],
    healthy: Sequence[Violation],
    *,
    invariants: int,
    seconds: float = 0.0,
) -> Outcome:
    """The outcome of ``case`` from what the faulty program and its healthy twin violated."""
    false = {one.invariant for one in healthy}
    early = [one for one in faulty if one.step < case.from_step]
    true = [one for one in faulty if one.step >= case.from_step and one.invariant not in false]
    speaking = sorted((one for one in true if speaks(case, one)), key=lambda one: one.step)
    outcome = without_verdict(case, None)
    outcome.invariants, outcome.seconds = invariants, seconds
    outcome.false_alarms = list(dict.fromkeys(one.expected for one in [*healthy, *early]))
    if speaking:
        first = speaking[0]
        outcome.caught, outcome.step, outcome.relation = True, first.step, first.relation
        outcome.invariant, outcome.seen, outcome.where = first.expected, first.seen, first.where
    outcome.others = [one.expected for one in true if one not in speaking[:1]]
    return outcome


def speaks(case: Case, violation: Violation) -> bool:
    """Whether what did not hold is what the issue is about."""
    return violation.relation in case.relations and bool(re.search(case.about, violation.expected))


def without_verdict(case: Case, trouble: str | None) -> Outcome:
    return Outcome(
        issue=case.issue, program=case.program, wrong=case.wrong, published=case.published,
        from_step=case.from_step, caught=False, trouble=trouble,
    )  # fmt: skip
