"""Two results folders against each other: a regression gate (``remora compare``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from remora.core.errors import BadValue, EnvironmentsDiffer, ResultsUnusable
from remora.lab.environment import differences
from remora.lab.folder import Folder
from remora.lab.results import Interval, Plan
from remora.lab.statistics.comparison import compare_table
from remora.lab.summary import by_arm, log_ratios, paired

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
    not count against the code. Arms within ±``margin`` are the same.

    Raises:
        EnvironmentsDiffer: machine, versions, device or threads differ and ``force`` is not set.
        BadValue: the folders hold different experiments or scales, or no arm in common.
    """
    plan_a, plan_b = a.plan(), b.plan()
    _check_plans(plan_a, plan_b)
    found = differences(a.environment().before, b.environment().before)
    if found and not force:
        raise EnvironmentsDiffer(
            f"{a.path} and {b.path} were measured under different conditions "
            f"({'; '.join(found)}); measure again under the same, or compare with --force"
        )
    ratios_a, ratios_b = _ratios(a, plan_a), _ratios(b, plan_b)
    common = [name for name in ratios_a if name in ratios_b]
    if not common:
        raise BadValue(f"{a.path} and {b.path} have no measured arm in common")
    return Comparison(
        rows=_changes({name: (ratios_a[name], ratios_b[name]) for name in common}, margin, level),
        only_in_a=[name for name in ratios_a if name not in ratios_b],
        only_in_b=[name for name in ratios_b if name not in ratios_a],
        environments=found,
    )


def _check_plans(a: Plan, b: Plan) -> None:
    for what in ("experiment", "scale", "device"):
        one, other = getattr(a, what), getattr(b, what)
        if one != other:
            raise BadValue(f"the {what}s differ: {one!r} against {other!r}; compare like with like")


def _ratios(folder: Folder, plan: Plan) -> dict[str, list[float]]:
    """The log ratios to native of every arm but native itself, one a block."""
    trials, warnings = folder.trials()
    if warnings:
        raise ResultsUnusable(warnings[0])
    arms = by_arm(trials)
    natives = {arm.workload: arms.get(arm.name, {}) for arm in plan.arms if arm.role == "baseline"}
    return {
        arm.name: list(log_ratios(paired(arms[arm.name], natives[arm.workload])))
        for arm in plan.arms
        if arm.role == "system" and arm.name in arms
    }


def _changes(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], margin: float, level: float
) -> list[Changed]:
    found = compare_table(pairs, margin, level)
    return [
        Changed(name, each.ratio, each.interval, each.p_holm, each.verdict)
        for name, each in found.items()
    ]
