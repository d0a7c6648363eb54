"""Claims beside what a run measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from remora.experiments.disaggregation_published import (
    CLAIMS,
    Claim,
    against_aim,
    against_range,
)
from remora.experiments.speedups import Speedup, speedups
from remora.lab.report import numbers
from remora.lab.report.tables import ArmRow, Column, TextTable, absence_text, arm_rows
from remora.lab.results import Analysis, Trial

Keyed = Mapping[tuple[str, str], ArmRow]


@dataclass(frozen=True)
class Judged:
    """A claim, what was measured, and what that says of it."""

    claim: Claim
    workload: str
    value: float | None
    low: float | None
    high: float | None
    absence: str = ""

    @property
    def published(self) -> str:
        return self.absence or against_range(self.claim, self.low, self.high)

    @property
    def aimed(self) -> str:
        return self.absence or against_aim(self.claim, self.low, self.high)


def judged(analysis: Analysis, trials: Sequence[Trial]) -> list[Judged]:
    """Every claim about a workload of this run, in the order they are published."""
    rows = {(row.arm.workload, row.arm.label): row for row in arm_rows(analysis)}
    bases = {claim.base for claim in CLAIMS}
    found = {base: _keyed(speedups(analysis, trials, base)) for base in bases}
    workloads = list(dict.fromkeys(row.arm.workload for row in rows.values()))
    return [
        _judged(claim, workload, rows, found[claim.base])
        for claim in CLAIMS
        for workload in workloads
        if workload.endswith(claim.workload) and _can_be_judged(claim, workload, rows)
    ]


def _can_be_judged(claim: Claim, workload: str, rows: Keyed) -> bool:
    """Whether the run has both rows; it may not have wanted to."""
    return (workload, claim.row) in rows and (workload, claim.base) in rows


def _keyed(found: Sequence[Speedup]) -> dict[tuple[str, str], Speedup]:
    return {(each.workload, each.label): each for each in found}


def _judged(
    claim: Claim, workload: str, rows: Keyed, found: Mapping[tuple[str, str], Speedup]
) -> Judged:
    row, base = rows[workload, claim.row], rows.get((workload, claim.base))
    one = found[workload, claim.row]
    if claim.kind == "speed" or one.absence:
        between = one.interval
        low, high = (between.low, between.high) if between is not None else (None, None)
        return Judged(claim, workload, one.value, low, high, one.absence)
    mine = bytes_per_step(row)
    if mine is None:
        return Judged(claim, workload, None, None, None, _unknown(row))
    if claim.kind == "token bytes":
        value = mine / max(1, row.cell.work_count)
        return Judged(claim, workload, value, value, value)
    theirs = None if base is None else bytes_per_step(base)
    if theirs is None or not mine:
        return Judged(
            claim, workload, None, None, None, "unknown" if base is None else _unknown(base)
        )
    return Judged(claim, workload, theirs / mine, theirs / mine, theirs / mine)


def bytes_per_step(row: ArmRow) -> float | None:
    """What crosses in a step, both ways: counted, so without an interval. None where unknown."""
    sent, received = row.cost("sent_bytes_per_step"), row.cost("received_bytes_per_step")
    return None if sent is None or received is None else sent + received


def _unknown(row: ArmRow) -> str:
    return "unknown" if row.ran else absence_text(row)


def claims_table(found: Sequence[Judged]) -> TextTable:
    """Published, aimed at, measured, and the two verdicts."""
    titles = ("Published", "Aim", "Here", "Interval")
    columns = (
        *(Column("Workload", False), Column("Claim", False), *map(Column, titles)),
        *(Column("Published range", False), Column("Aim here", False)),
    )
    caption = "Published ranges and aims beside what was measured; larger is better but for bytes"
    return TextTable("claims", caption, columns, tuple(tuple(_cells(each)) for each in found))


def _cells(one: Judged) -> Iterator[str]:
    claim = one.claim
    yield one.workload
    yield claim.words
    yield _range(claim.low, claim.high)
    yield numbers.significant(claim.aim)
    yield numbers.significant(one.value)
    counted = claim.kind != "speed"
    yield "counted" if counted and one.value is not None else numbers.interval(one.low, one.high)
    yield one.published
    yield one.aimed


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return numbers.NONE
    if low == high:
        return numbers.significant(low)
    return f"{low:g}–{high:g}"
