"""What the tables hold, as data: one row an arm, one row a trial, shared by every format."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remora.lab.report import numbers
from remora.lab.results import (
    Analysis,
    Arm,
    Cell,
    Comparison,
    CostRatio,
    Failure,
    NoiseFloor,
    Spread,
    Tail,
    Trial,
    TrialSummary,
)

COSTS = {
    "cpu_ms_per_step": ("CPU a step", "ms"),
    "peak_rss_mib": ("Peak RSS", "MiB"),
    "disk_mib": ("Disk", "MiB"),
    "wire_mib": ("Wire", "MiB"),
    "sent_bytes_per_step": ("Sent a step", "bytes"),
    "received_bytes_per_step": ("Received a step", "bytes"),
    "drain_ms": ("Drain", "ms"),
    "gpu_utilization": ("GPU busy", "share"),
    "gpu_peak_mib": ("GPU peak", "MiB"),
}
"""How the known quantities of the cost vector are called, in the order they are shown."""


@dataclass(frozen=True)
class ArmRow:
    """All that is known of one arm."""

    arm: Arm
    cell: Cell
    comparison: Comparison | None
    noise: NoiseFloor | None

    @property
    def ran(self) -> bool:
        """Whether any trial of the arm gave samples."""
        return self.cell.step_ms is not None

    @property
    def failure(self) -> Failure | None:
        """The first failure, or None."""
        return next(iter(self.cell.failures.values()), None)

    def tail(self, quantile: float) -> Tail | None:
        """The tail at ``quantile``, or None."""
        return next((t for t in self.cell.tails_ms if abs(t.quantile - quantile) < 1e-9), None)

    def cost(self, quantity: str) -> float | None:
        """Mean over trials of one entry of the cost vector; None where unknown."""
        return mean(self.cell.costs.get(quantity))


@dataclass(frozen=True)
class TrialRow:
    """All that is known of one trial; ``summary`` is None where it failed."""

    trial: Trial
    summary: TrialSummary | None

    @property
    def status(self) -> str:
        return "ok" if self.trial.failure is None else self.trial.failure.kind

    @property
    def file(self) -> str:
        """Where its raw samples lie, within the results folder."""
        return f"trials/{self.trial.spec.id}.json"


def mean(spread: Spread | None) -> float | None:
    """The mean of a spread; None where there is none."""
    return None if spread is None else spread.mean


def arm_rows(analysis: Analysis) -> list[ArmRow]:
    """One row for every planned arm, in the plan's order, whether or not it has run."""
    cells = {cell.arm.name: cell for cell in analysis.cells}
    comparisons = {(c.workload, c.label): c for c in analysis.comparisons}
    noise = {n.workload: n for n in analysis.noise}
    return [
        ArmRow(
            arm=arm,
            cell=cells.get(arm.name) or _empty_cell(arm),
            comparison=comparisons.get((arm.workload, arm.label)),
            noise=noise.get(arm.workload),
        )
        for arm in analysis.plan.arms
    ]


def _empty_cell(arm: Arm) -> Cell:
    """A planned arm of which nothing is known yet, as in a run that was killed early."""
    return Cell(
        arm=arm, trials=[], failures={}, steps=0, unsettled=[], outliers=0, warmup_steps=None,
        step_ms=None, throughput=None, work_unit="", tails_ms=[], stall_ms=None, start_up_ms={},
        costs={},
    )  # fmt: skip


def by_workload(rows: Sequence[ArmRow]) -> dict[str, list[ArmRow]]:
    """The rows of each workload, order kept."""
    groups: dict[str, list[ArmRow]] = {}
    for row in rows:
        groups.setdefault(row.arm.workload, []).append(row)
    return groups


def trial_rows(analysis: Analysis, trials: Sequence[Trial]) -> list[TrialRow]:
    """One row a trial, by block and position."""
    summaries = {s.id: s for cell in analysis.cells for s in cell.summaries}
    ordered = sorted(trials, key=lambda t: (t.spec.block, t.spec.position, t.spec.id))
    return [TrialRow(trial=trial, summary=summaries.get(trial.spec.id)) for trial in ordered]


def cost_quantities(rows: Sequence[ArmRow]) -> list[str]:
    """Quantities that any arm knows: the known ones in their order, then any others by name."""
    present = {quantity for row in rows for quantity in row.cell.costs}
    return [q for q in COSTS if q in present] + sorted(present - set(COSTS))


def cost_ratio_quantities(rows: Sequence[ArmRow]) -> list[str]:
    """Quantities that any arm has a ratio to native of, in the order they were stored."""
    found = (r.quantity for row in rows if row.comparison for r in row.comparison.cost_ratios)
    return list(dict.fromkeys(found))


def start_up_phases(rows: Sequence[ArmRow]) -> list[str]:
    """Phases of starting up that any arm knows, in the order they were stored."""
    return list(dict.fromkeys(phase for row in rows for phase in row.cell.start_up_ms))


def cost_title(quantity: str) -> tuple[str, str]:
    """What a quantity is called, and its unit."""
    return COSTS.get(quantity, (quantity.replace("_", " "), ""))


def rerun_command(analysis: Analysis, folder: Path, arm: Arm) -> str:
    """What to type to run one arm again into the same results."""
    words = ["remora", "bench", analysis.plan.experiment, "--resume", str(folder)]
    return shlex.join([*words, "--only", arm.name])


# ---------------------------------------------------------------- tables of text


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class TextTable:
    """A table ready to be set, in any format: plain text that still has to be escaped."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def verdict_text(row: ArmRow) -> str:
    """The verdict in a word or two; what stands instead where there is none."""
    if row.comparison is not None:
        return row.comparison.verdict
    if row.arm.role == "baseline" and row.ran:
        return "baseline"
    if row.arm.role == "again" and row.ran:
        return "noise floor"
    if row.failure is not None:
        return "failed"
    return "not compared" if row.ran else "not run"


def absence_text(row: ArmRow) -> str:
    """Why there is nothing to draw for an arm."""
    return f"failed: {row.failure.kind}" if row.failure is not None else verdict_text(row)


def overhead_table(workload: str, rows: Sequence[ArmRow], level: float) -> TextTable:
    """What riding along costs against native."""
    columns = (
        Column("Arm", numeric=False),
        Column("Verdict", numeric=False),
        Column("Ratio"),
        Column(f"{numbers.share(level)} interval"),
        Column("p (Holm)"),
        Column("Cliff’s δ"),
        Column("Hedges’ g"),
        Column("Blocks"),
    )
    body = tuple(_overhead_cells(row) for row in rows)
    return TextTable("overhead", f"{workload}: step time as a ratio to native", columns, body)


def _overhead_cells(row: ArmRow) -> tuple[str, ...]:
    versus = row.comparison
    if versus is None:
        return (row.arm.label, verdict_text(row), *[numbers.NONE] * 6)
    return (
        row.arm.label,
        verdict_text(row),
        numbers.ratio(versus.ratio),
        interval_text(versus),
        numbers.p_value(versus.p_holm),
        numbers.effect(versus.cliffs_delta),
        numbers.effect(versus.hedges_g),
        numbers.count(versus.blocks),
    )


def interval_text(versus: Comparison | CostRatio) -> str:
    """The interval with the decimals of its ratio."""
    if versus.interval is None or versus.ratio is None:
        return numbers.NONE
    places = numbers.ratio_places(versus.ratio)
    return numbers.interval(versus.interval.low, versus.interval.high, places)


def cost_table(workload: str, rows: Sequence[ArmRow]) -> TextTable:
    """What a step and a run take, in absolute numbers."""
    columns = tuple(
        Column(title, numeric=index > 0)
        for index, title in enumerate(
            ("Arm", "Step, ms", "p95, ms", "p99, ms", "Stall, ms", "CPU a step, ms",
             "Peak RSS, MiB", "Disk, MiB")
        )
    )  # fmt: skip
    body = tuple(_cost_cells(row) for row in rows)
    return TextTable("cost", f"{workload}: what a step and a run take", columns, body)


def _cost_cells(row: ArmRow) -> tuple[str, ...]:
    return (
        row.arm.label,
        numbers.significant(mean(row.cell.step_ms)),
        tail_text(row.tail(0.95)),
        tail_text(row.tail(0.99)),
        numbers.significant(mean(row.cell.stall_ms)),
        numbers.significant(row.cost("cpu_ms_per_step")),
        numbers.significant(row.cost("peak_rss_mib")),
        numbers.significant(row.cost("disk_mib")),
    )


def tail_text(tail: Tail | None) -> str:
    """A percentile, or INVALID: never a number that too few steps cannot carry."""
    if tail is None:
        return numbers.NONE
    return numbers.significant(tail.value) if tail.valid else "INVALID"


def invalid_tails(rows: Sequence[ArmRow]) -> dict[tuple[float, str], list[str]]:
    """By quantile and reason, the labels of the arms whose percentile is not valid."""
    found: dict[tuple[float, str], list[str]] = {}
    for row in rows:
        for tail in row.cell.tails_ms:
            if not tail.valid:
                found.setdefault((tail.quantile, tail.reason), []).append(row.arm.label)
    return found


def unsettled(rows: Sequence[ArmRow]) -> dict[str, list[str]]:
    """Labels of arms with trials that never settled, by how many, such as ``2 of 5 trials``."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.cell.unsettled:
            some, all_ = (
                numbers.count(len(each)) for each in (row.cell.unsettled, row.cell.trials)
            )
            found.setdefault(f"{some} of {all_} trials", []).append(row.arm.label)
    return found


def noise_sentence(noise: NoiseFloor) -> str:
    """The noise floor of one workload in words."""
    measured = numbers.ratio(noise.ratio)
    around = numbers.interval(noise.interval.low, noise.interval.high, 3)
    floor = numbers.share(noise.floor)
    return f"native against native gave {measured} {around}; nothing below ±{floor} is claimed"


@dataclass(frozen=True)
class Answer:
    """What one row answers to the experiment's question."""

    label: str
    sentence: str
    """Goes on from the label."""
    verdict: str
    """One of a comparison, or ``failed``."""


Answers = Mapping[str, Sequence[Answer]]
"""By workload."""


def answers(rows: Sequence[ArmRow], own: Answers | None = None) -> Sequence[Answer]:
    """What the arms of one workload cost against native; native against itself is no answer.

    Args:
        own: what the experiment answers itself, instead of that.
    """
    if own is not None:
        return own.get(rows[0].arm.workload, ())
    return [
        Answer(row.arm.label, row.comparison.sentence, row.comparison.verdict)
        for row in rows
        if row.comparison is not None and row.arm.role in ("system", "injected")
    ]
