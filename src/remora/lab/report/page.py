"""What the page shows, as data: anchors, chips, links and figures; the template only sets it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from remora.lab.report.figures import Drawn
from remora.lab.report.palette import VERDICT_TONES
from remora.lab.report.tables import (
    Answers,
    ArmRow,
    TrialRow,
    answers,
    arm_rows,
    by_workload,
    cost_quantities,
    cost_ratio_quantities,
    rerun_command,
    start_up_phases,
    trial_rows,
    unsettled,
    verdict_text,
)
from remora.lab.results import Analysis, Arm, Environment, NoiseFloor, Option, Plan, Trial

MARKS = {"no cost": "=", "costs": "▲", "gains": "▼", "undecided": "?", "void": "∅", "failed": "!"}


@dataclass(frozen=True)
class Chip:
    """A verdict: a mark, words and a tone, so that it never rests on colour alone."""

    mark: str
    words: str
    tone: str


@dataclass(frozen=True)
class TrialView:
    anchor: str
    row: TrialRow
    href: str
    log_href: str | None


@dataclass(frozen=True)
class ArmView:
    anchor: str
    row: ArmRow
    chip: Chip
    trials: tuple[TrialView, ...]
    rerun: str


@dataclass(frozen=True)
class AnswerView:
    label: str
    sentence: str
    chip: Chip


@dataclass(frozen=True)
class WorkloadView:
    anchor: str
    name: str
    answers: tuple[AnswerView, ...]
    arms: tuple[ArmView, ...]
    noise: NoiseFloor | None
    costs: tuple[str, ...]
    cost_ratios: tuple[str, ...]
    phases: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Why each INVALID percentile of the summary is so."""
        return tuple(
            f"{arm.row.arm.label}, p{tail.quantile * 100:g}: {tail.reason}"
            for arm in self.arms
            for tail in arm.row.cell.tails_ms
            if not tail.valid
        )

    @property
    def remarks(self) -> bool:
        """Whether an arm never settled or did unequal work."""
        return any(arm.row.cell.unsettled or arm.chip.words == "void" for arm in self.arms)

    @property
    def unsettled(self) -> dict[str, list[str]]:
        """Arms with trials that never reached a steady state, by how many of them."""
        return unsettled([arm.row for arm in self.arms])


@dataclass(frozen=True)
class EnvironmentRow:
    name: str
    before: str
    after: str
    differs: bool


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str


@dataclass(frozen=True)
class Page:
    plan: Plan
    analysis: Analysis
    trials_run: int
    workloads: tuple[WorkloadView, ...]
    figures: tuple[Drawn, ...]
    environment: dict[str, tuple[EnvironmentRow, ...]]
    methods: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def failed(self) -> tuple[ArmView, ...]:
        """Arms of which at least one trial failed."""
        return tuple(a for w in self.workloads for a in w.arms if a.row.cell.failures)

    @property
    def prepares(self) -> bool:
        """Whether any arm needed something that was made once for all trials."""
        return any("prepare" in workload.phases for workload in self.workloads)

    @property
    def settings(self) -> dict[str, dict[str, Option]]:
        """Every system's settings by label, with what an arm adds; first those with any."""
        own = {a.row.arm.label: _own_settings(a.row.arm) for w in self.workloads for a in w.arms}
        labels = dict.fromkeys([*self.plan.settings, *own])
        every = {x: {**self.plan.settings.get(x, {}), **own.get(x, {})} for x in labels}
        return dict(sorted(every.items(), key=lambda item: not item[1]))


def _own_settings(arm: Arm) -> dict[str, Option]:
    most: dict[str, Option] = {} if arm.most_steps is None else {"most_steps": arm.most_steps}
    return {**arm.options, **most}


def build_page(
    analysis: Analysis,
    trials: Sequence[Trial],
    folder: Path,
    figures: Sequence[Drawn],
    answered: Answers | None = None,
) -> Page:
    """All that the page shows."""
    rows = trial_rows(analysis, trials)
    groups = by_workload(arm_rows(analysis))
    workloads = tuple(
        _workload(number, name, group, rows, analysis, folder, answered)
        for number, (name, group) in enumerate(groups.items(), start=1)
    )
    intervals = (c.interval for c in analysis.comparisons if c.interval is not None)
    page = Page(
        plan=analysis.plan,
        analysis=analysis,
        trials_run=len(trials),
        workloads=workloads,
        figures=tuple(figures),
        environment=_environment(analysis),
        methods=tuple(dict.fromkeys(interval.method for interval in intervals)),
        sections=(),
    )
    return _with_contents(page)


def _with_contents(page: Page) -> Page:
    """The page and its table of contents: a section without content has no entry."""
    entries = [Section("answer", "Answer"), Section("summary", "Summary")]
    entries += [Section(f"figure-{d.figure.name}", d.figure.title) for d in page.figures]
    optional = [
        (any(w.costs for w in page.workloads), Section("costs", "Costs")),
        (any(w.phases for w in page.workloads), Section("start-up", "Start-up")),
        (bool(page.failed), Section("failed", "Failed")),
        (bool(page.analysis.warnings), Section("warnings", "Warnings")),
    ]
    entries += [section for shown, section in optional if shown]
    entries += [Section("environment", "Environment"), Section("method", "Method"),
                Section("systems", "Systems"), Section("trials", "Trials")]  # fmt: skip
    return Page(**{**page.__dict__, "sections": tuple(entries)})


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens: safe as an anchor, not unique by itself."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def _workload(
    number: int, name: str, rows: Sequence[ArmRow], trials: Sequence[TrialRow],
    analysis: Analysis, folder: Path, answered: Answers | None,
) -> WorkloadView:  # fmt: skip
    arms = tuple(
        _arm(f"{number}-{index}", row, trials, analysis, folder)
        for index, row in enumerate(rows, start=1)
    )
    return WorkloadView(
        anchor=f"workload-{number}-{slug(name)}",
        name=name,
        answers=tuple(
            AnswerView(a.label, a.sentence, _judged(a.verdict)) for a in answers(rows, answered)
        ),
        arms=arms,
        noise=rows[0].noise,
        costs=tuple(cost_quantities(rows)),
        cost_ratios=tuple(cost_ratio_quantities(rows)),
        phases=tuple(start_up_phases(rows)),
    )


def _arm(
    number: str, row: ArmRow, trials: Sequence[TrialRow], analysis: Analysis, folder: Path
) -> ArmView:
    own = [trial for trial in trials if trial.trial.spec.arm.name == row.arm.name]
    return ArmView(
        anchor=f"arm-{number}-{slug(row.arm.label)}",
        row=row,
        chip=_chip(row),
        trials=tuple(_trial(f"{number}-{n}", trial) for n, trial in enumerate(own, start=1)),
        rerun=rerun_command(analysis, folder, row.arm),
    )


def _chip(row: ArmRow) -> Chip:
    if row.comparison is not None:
        return _judged(row.comparison.verdict)
    if row.failure is not None:
        return Chip("!", verdict_text(row), "worse")
    return Chip("·", verdict_text(row), "plain")


def _judged(verdict: str) -> Chip:
    return Chip(MARKS[verdict], verdict, VERDICT_TONES[verdict])


def _trial(number: str, row: TrialRow) -> TrialView:
    failure = row.trial.failure
    return TrialView(
        anchor=f"trial-{number}-{slug(row.trial.spec.id)}",
        row=row,
        href=f"../trials/{quote(row.trial.spec.id, safe='')}.json",
        log_href=f"../{quote(failure.log)}" if failure is not None else None,
    )


def _environment(analysis: Analysis) -> dict[str, tuple[EnvironmentRow, ...]]:
    pair = analysis.environment
    parts = ("machine", "load", "versions", "threads", "device", "git")
    return {part: _environment_rows(part, pair.before, pair.after) for part in parts}


def _environment_rows(
    part: str, before: Environment, after: Environment | None
) -> tuple[EnvironmentRow, ...]:
    first: dict[str, object] = getattr(before, part)
    last: dict[str, object] = getattr(after, part) if after is not None else {}
    names = dict.fromkeys([*first, *last])
    return tuple(
        EnvironmentRow(
            name=name,
            before=_environment_text(first.get(name)),
            after=_environment_text(last.get(name)) if after is not None else "not taken",
            differs=after is not None and first.get(name) != last.get(name),
        )
        for name in names
    )


def _environment_text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
