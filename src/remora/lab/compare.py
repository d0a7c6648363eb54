"""Two results folders against each other: a regression gate (``remora compare``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from remora.core.errors import BadValue, EnvironmentsDiffer, ResultsUnusable
from remora.lab.environment import differences
from remora.lab.equal_work import equal_work
from remora.lab.folder import Folder
from remora.lab.results import Interval, Plan
from remora.lab.schedule import NATIVE
from remora.lab.statistics.comparison import compare_table
from remora.lab.statistics.floor import noise_floor
from remora.lab.summary import Floats, again_log_ratios, by_arm, log_ratios, paired

Change = Literal["same", "better", "worse", "undecided"]
EXIT_CODES: Mapping[Change, int] = {"same": 0, "better": 0, "worse": 1, "undecided": 3}


@dataclass(frozen=True)
class Changed:
    """One arm's overhead in B against its overhead in A. Above 1 is slower."""

    arm: str
    ratio: float | None
    interval: Interval | None
    p_holm: float | None
    """That nothing changed, Holm-adjusted over the arms."""
    change: Change


@dataclass(frozen=True)
class Comparison:
    """All arms that both folders have, and what the environments differ in."""

    rows: list[Changed]
    only_in_a: list[str]
    only_in_b: list[str]
    environments: list[str]

    @property
    def change(self) -> Change:
        """The worst of all rows: worse, then undecided, then same or better."""
        changes = {row.change for row in self.rows}
        for each in ("worse", "undecided", "better"):
            if each in changes:
                return each
        return "same"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.change]


def compare_folders(
    a: Folder, b: Folder, *, margin: float, level: float = 0.95, force: bool = False
) -> Comparison:
    """Compare every arm's ratio to native between ``a`` (before) and ``b`` (after).

    Ratios to native of the same blocks are compared, so that a machine that is slower today does
    not count against the code. Arms within ±``margin`` are the same; a change is claimed only
    above the larger of both noise floors; an arm that B planned and could not measure, or whose
    work was not equal, is undecided.

    Raises:
        EnvironmentsDiffer: machine, versions, device or threads differ and ``force`` is not set.
        BadValue: the folders hold different experiments, scales or settings, or no common arm.
        ResultsUnusable: a trial's file is damaged.
    """
    plan_a, plan_b = a.plan(), b.plan()
    _check_plans(plan_a, plan_b)
    found = differences(a.environment().before, b.environment().before)
    if found and not force:
        raise EnvironmentsDiffer(
            f"{a.path} and {b.path} were measured under different conditions "
            f"({'; '.join(found)}); measure again under the same, or compare with --force"
        )
    before, after = _Measured(a, plan_a), _Measured(b, plan_b)
    common = [name for name in before.ratios if name in after.planned]
    if not common:
        raise BadValue(f"{a.path} and {b.path} have no measured arm in common")
    return Comparison(
        rows=[
            row
            for workload in before.floors
            for row in _rows(before, after, workload, margin, level)
        ],
        only_in_a=[name for name in before.ratios if name not in after.planned],
        only_in_b=[name for name in after.ratios if name not in before.planned],
        environments=found,
    )


def _check_plans(a: Plan, b: Plan) -> None:
    for what in ("experiment", "scale", "device"):
        one, other = getattr(a, what), getattr(b, what)
        if one != other:
            raise BadValue(f"the {what}s differ: {one!r} against {other!r}; compare like with like")
    for what, one, other in (("settings", a.settings, b.settings), ("sizes", a.sizes, b.sizes)):
        for name in one.keys() & other.keys():
            if one[name] != other[name]:
                raise BadValue(
                    f"the {what} of {name} differ: {one[name]} against {other[name]}; "
                    "compare like with like"
                )


class _Measured:
    """One folder's overheads: the log ratios to native of every comparable system, one a block."""

    def __init__(self, folder: Folder, plan: Plan) -> None:
        trials, warnings = folder.trials()
        if warnings:
            raise ResultsUnusable(warnings[0])
        arms = by_arm(trials, plan.warm_up)
        natives = {arm.workload: arms.get(arm.name, {}) for arm in plan.arms if arm.label == NATIVE}
        self.planned = {arm.name for arm in plan.arms if arm.role == "system"}
        self.workload = {arm.name: arm.workload for arm in plan.arms}
        again = again_log_ratios(trials, plan.warm_up)
        self.floors = {
            workload: floor.floor if (floor := noise_floor(again.get(workload, []))) else 0.0
            for workload in natives
        }
        pairs = {
            name: paired(arms.get(name, {}), natives[self.workload[name]]) for name in self.planned
        }
        self.ratios = {
            arm.name: log_ratios(pairs[arm.name])
            for arm in plan.arms
            if pairs.get(arm.name) and equal_work(pairs[arm.name], plan.tolerance).equal
        }


def _rows(
    before: _Measured, after: _Measured, workload: str, margin: float, level: float
) -> list[Changed]:
    """The arms of one workload, corrected together."""
    nothing: Floats = np.empty(0)
    pairs = {
        name: (ratios, after.ratios.get(name, nothing))
        for name, ratios in before.ratios.items()
        if before.workload[name] == workload and name in after.planned
    }
    floor = max(before.floors[workload], after.floors.get(workload, 0.0))
    found = compare_table(pairs, margin, level, floor)
    return [
        Changed(name, each.ratio, each.interval, each.p_holm, each.verdict)
        for name, each in found.items()
    ]
