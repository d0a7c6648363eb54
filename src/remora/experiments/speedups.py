"""How much faster a row is than another of the same blocks: ratio, interval, effect size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from remora.lab.report.tables import ArmRow, absence_text, arm_rows
from remora.lab.results import Analysis, Interval, Trial
from remora.lab.statistics.effect import cliffs_delta, hedges_g
from remora.lab.statistics.ratios import mean_interval, mean_ratio
from remora.lab.summary import Arms, by_arm, log_ratios, paired


@dataclass(frozen=True)
class Speedup:
    """The base's time a step over the row's; above 1 the row is faster."""

    workload: str
    label: str
    blocks: int = 0
    value: float | None = None
    interval: Interval | None = None
    cliffs_delta: float | None = None
    """P(base slower) − P(base faster), over pairs of trials."""
    hedges_g: float | None = None
    absence: str = ""
    """Why there is none; empty where there is one."""


def speedups(analysis: Analysis, trials: Sequence[Trial], base: str) -> list[Speedup]:
    """Every row against the one labelled ``base`` of its workload, in the plan's order."""
    arms = by_arm(trials, analysis.plan.warm_up)
    rows = {(row.arm.workload, row.arm.label): row for row in arm_rows(analysis)}
    return [
        _speedup(row, rows.get((row.arm.workload, base)), arms, analysis) for row in rows.values()
    ]


def _speedup(row: ArmRow, base: ArmRow | None, arms: Arms, analysis: Analysis) -> Speedup:
    workload, label = row.arm.workload, row.arm.label
    if why := _absence(row) or ("no such row to compare with" if base is None else _absence(base)):
        return Speedup(workload, label, absence=why)
    base_name = base.arm.name if base is not None else ""
    pairs = paired(arms.get(base_name, {}), arms.get(row.arm.name, {}))
    if not pairs:
        return Speedup(workload, label, absence="no block holds both")
    logs = log_ratios(pairs)
    slow = np.asarray([a.mean_step_ns for a, _ in pairs])
    fast = np.asarray([b.mean_step_ns for _, b in pairs])
    enough = len(pairs) > 1
    return Speedup(
        workload,
        label,
        blocks=len(pairs),
        value=mean_ratio(logs),
        interval=mean_interval(logs, analysis.plan.level, analysis.plan.seed),
        cliffs_delta=cliffs_delta(slow, fast) if enough else None,
        hedges_g=hedges_g(np.log(slow), np.log(fast)) if enough else None,
    )


def _absence(row: ArmRow) -> str:
    """A row that failed or did other work has no number, whatever was measured of it."""
    if not row.ran:
        return absence_text(row)
    if row.comparison is not None and row.comparison.verdict == "void":
        return "void"
    return ""
