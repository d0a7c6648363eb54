"""The rates of false alarms, and the tables they are shown in."""

from __future__ import annotations

import pytest

from remora.check.invariants import Invariant
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover
from remora.check.relations.lead import Lead
from remora.check.report import Violation, account
from remora.experiments.alarm_rates import (
    Check,
    Counts,
    Lesson,
    Outcome,
    by_relation,
    markdown,
    total,
)

KNOWN = [
    Invariant(claim=claim)
    for claim in (Contains("a", "b"), Contains("a", "c"), Cover("a", "b"), Lead("a", "b"))
]
GCN = ("gcn",)


def violation(invariant: Invariant) -> Violation:
    return Violation(
        invariant=invariant.name, relation=invariant.relation, expected=invariant.words(),
        seen="not", step=0, where=None, last_step=0,
    )  # fmt: skip


def test_the_counts_of_a_check_by_relation() -> None:
    judged = list(zip(KNOWN, (3, 0, 5, 1), strict=True))
    report = account("p", 5, judged, [violation(KNOWN[0]), violation(KNOWN[3])])

    assert by_relation(KNOWN, report) == {
        "contains": Counts(2, 1, 1), "cover": Counts(1, 1, 0), "lead": Counts(1, 1, 1),
    }  # fmt: skip


def test_rates_are_over_all_invariants_and_over_those_judged() -> None:
    counts = total([Counts(40, 10, 1), Counts(40, 30, 3)])

    assert counts == Counts(80, 40, 4)
    assert counts.rate == pytest.approx(0.05)
    assert counts.rate_of_triggered == pytest.approx(0.1)
    assert (Counts().rate, Counts().rate_of_triggered) == (0.0, 0.0)


def foreign(program: str, **counts: Counts) -> Check:
    return Check(program=program, learned_from=GCN, by_relation=counts)


def variant(run: str, violated: int) -> Check:
    counts = {"lead": Counts(20, 20, violated)}
    return Check(program="vae", learned_from=("vae",), run=run, by_relation=counts)


def test_every_table() -> None:
    outcome = Outcome(
        lessons=(
            Lesson(learned_from=GCN, invariants=20, seconds=1.26),
            Lesson(learned_from=("vae",), invariants=20),
        ),
        checks=(
            foreign("dcgan", contains=Counts(5, 5, 0), lead=Counts(15, 5, 2)),
            Check(program="siamese", learned_from=GCN, trouble="it failed"),
            variant("own", 0), variant("seed", 0), variant("batch size", 1),
        ),
    )  # fmt: skip
    assert markdown(outcome) == TABLES


TABLES = """\
| programs learned from | invariants | programs checked | violated / all | published / rerun \
| violated / triggered | seconds to learn |
| --- | --- | --- | --- | --- | --- | --- |
| 1 | 20 | 1 | 0.1000 | 0.310 / 0.039 | 0.2000 | 1.3 |

Learned from gcn:

| program | invariants | triggered | violated | violated / all | violated / triggered |
| --- | --- | --- | --- | --- | --- |
| dcgan | 20 | 10 | 2 | 0.1000 | 0.2000 |
| siamese | it failed | – | – | – | – |

| relation | invariants | triggered | violated | violated / all | violated / triggered |
| --- | --- | --- | --- | --- | --- |
| contains | 5 | 5 | 0 | 0.0000 | 0.0000 |
| lead | 15 | 5 | 2 | 0.1333 | 0.4000 |

Learned from one run of the program itself:

| program | invariants | violated: own | violated: seed | violated: batch size | rate |
| --- | --- | --- | --- | --- | --- |
| vae | 20 | 0 | 0 | 1 | 0.0250 |
| all | 20 | 0 | 0 | 1 | 0.0250 |
"""
