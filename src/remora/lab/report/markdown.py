"""Markdown: the tables and sentences of the report, to paste where no page can go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from remora.lab.report.figures import Drawn
from remora.lab.report.tables import (
    Answer,
    Answers,
    ArmRow,
    TextTable,
    answers,
    arm_rows,
    by_workload,
    cost_table,
    invalid_tails,
    noise_sentence,
    overhead_table,
    rerun_command,
    unsettled,
)
from remora.lab.results import Analysis

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escape(text: str) -> str:
    """``text`` as Markdown shows it verbatim, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split("\n")))


def summary_markdown(
    analysis: Analysis,
    folder: Path,
    figures: Sequence[Drawn] = (),
    answered: Answers | None = None,
) -> str:
    """The whole summary; ``folder`` is only named, in the commands that run an arm again.

    Args:
        figures: those whose tables it is to have as well.
        answered: what the experiment answers itself, where that is not what arms cost.
    """
    rows = arm_rows(analysis)
    parts = [_head(analysis)]
    parts += [
        _workload(name, group, analysis, answers(group, answered))
        for name, group in by_workload(rows).items()
    ]
    parts += [_tables(drawn) for drawn in figures if drawn.tables]
    parts += [_failures(rows, analysis, folder), _notes(rows), _warnings(analysis)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(analysis: Analysis) -> str:
    plan = analysis.plan
    lines = [f"# {escape(plan.title)}", escape(plan.question)]
    if not analysis.complete:
        lines.append("**Incomplete:** the run ended before all planned trials had been run.")
    lines.append(
        f"{escape(plan.experiment)}, scale {escape(plan.scale)}, device {escape(plan.device)}, "
        f"{plan.blocks} blocks, planned {escape(plan.created)}."
    )
    return "\n\n".join(lines)


def _workload(
    name: str, rows: Sequence[ArmRow], analysis: Analysis, answered: Sequence[Answer]
) -> str:
    parts = [f"## {escape(name)}", *_sentences(answered)]
    noise = rows[0].noise
    if noise is not None:
        parts.append(f"Noise floor: {noise_sentence(noise)}.")
    parts.append(table_markdown(overhead_table(name, rows, analysis.plan.level)))
    parts.append(table_markdown(cost_table(name, rows)))
    return "\n\n".join(parts)


def _sentences(answered: Sequence[Answer]) -> list[str]:
    lines = [f"- **{escape(each.label)}** {escape(each.sentence)}" for each in answered]
    return ["\n".join(lines)] if lines else []


def table_markdown(table: TextTable) -> str:
    """A table with its numbers set to the right."""
    lines = [[column.title for column in table.columns]]
    lines.append(["--:" if column.numeric else ":--" for column in table.columns])
    lines += [[escape(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tables(drawn: Drawn) -> str:
    parts = [f"## {escape(drawn.figure.title)}"]
    for table in drawn.tables:
        if table.rows:
            parts += [f"### {escape(table.caption)}", table_markdown(table)]
    return "\n\n".join(parts)


def _failures(rows: Sequence[ArmRow], analysis: Analysis, folder: Path) -> str:
    lines = []
    for row in rows:
        for trial, failure in row.cell.failures.items():
            lines.append(
                f"- {escape(row.arm.name)}, trial {escape(trial)}: {failure.kind}: "
                f"{escape(failure.message)} (log: {escape(failure.log)})"
            )
        if row.cell.failures:
            lines.append(f"  - run it again: `{rerun_command(analysis, folder, row.arm)}`")
    return "## Failed\n\n" + "\n".join(lines) if lines else ""


def _notes(rows: Sequence[ArmRow]) -> str:
    lines = [
        f"- {escape(workload)}: p{quantile * 100:g} is INVALID of {escape(', '.join(labels))}: "
        f"{escape(reason)}"
        for workload, group in by_workload(rows).items()
        for (quantile, reason), labels in invalid_tails(group).items()
    ]
    lines += [
        f"- {escape(workload)}: no steady state in {share} of {escape(', '.join(labels))}"
        for workload, group in by_workload(rows).items()
        for share, labels in unsettled(group).items()
    ]
    return "## Notes\n\n" + "\n".join(lines) if lines else ""


def _warnings(analysis: Analysis) -> str:
    lines = [f"- {escape(warning)}" for warning in analysis.warnings]
    return "## Warnings\n\n" + "\n".join(lines) if lines else ""
