"""``remora report``: render the report of a results folder again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table

from remora.cli.console import plain_console

if TYPE_CHECKING:
    from remora.lab.folder import Folder
    from remora.lab.report import Rendered
    from remora.lab.report.tables import TextTable
    from remora.lab.results import Analysis, Comparison


def report(folder: Annotated[Path, typer.Argument(help="A results folder.")]) -> None:
    """Write the report of a results folder, from what lies in it and nothing else."""
    from remora.lab.packages import require_lab_packages

    require_lab_packages()
    from remora.lab.folder import Folder

    write_report(Folder.open(folder))


def write_report(folder: Folder) -> Analysis:
    """Analyse what lies in ``folder``, write its report, and print the verdicts."""
    from remora.experiments import registry
    from remora.lab.analysis import analyse_folder
    from remora.lab.report import render

    analysis, trials = analyse_folder(folder)
    name = analysis.plan.experiment
    answered = registry.answers(name, analysis, trials)
    rendered = render(folder.path, analysis, trials, registry.figures(name), answered)
    print_summary(analysis, rendered, headline=registry.headline(name, analysis, trials))
    return analysis


def print_summary(
    analysis: Analysis,
    rendered: Rendered,
    console: Console | None = None,
    headline: Sequence[TextTable] | None = None,
) -> None:
    """The verdicts as a table, or the experiment's own; the warnings, and where the page lies."""
    console = console or plain_console()
    if headline is None:
        _print_ratios(analysis, console)
    for table in headline or ():
        console.print(_own_table(table))
    if headline is not None:
        _print_failures(analysis, console)
    for warning in analysis.warnings:
        console.print(f"note: {warning}")
    console.print(f"report: {rendered.page.resolve().as_uri()}", soft_wrap=True)


def _print_ratios(analysis: Analysis, console: Console) -> None:
    floors = {noise.workload: noise.floor for noise in analysis.noise}
    for workload in dict.fromkeys(arm.workload for arm in analysis.plan.arms):
        rows = [each for each in analysis.comparisons if each.workload == workload]
        console.print(_table(workload, floors.get(workload), rows))


def _print_failures(analysis: Analysis, console: Console) -> None:
    for cell in analysis.cells:
        for failure in list(cell.failures.values())[:1]:
            console.print(f"{cell.arm.name}: {failure.kind}: {failure.message}", soft_wrap=True)


def _own_table(own: TextTable) -> Table:
    table = Table(title=own.caption, title_justify="left", title_style="bold", expand=True)
    for place, column in enumerate(own.columns):
        justify: JustifyMethod = "right" if column.numeric else "left"
        share = 1 if place else 2
        table.add_column(column.title, justify=justify, overflow="fold", ratio=share)
    for row in own.rows:
        table.add_row(*row)
    return table


def _table(workload: str, floor: float | None, rows: list[Comparison]) -> Table:
    known = "unknown" if floor is None else f"{floor * 100:.1f} %"
    table = Table(
        title=f"{workload}  (noise floor {known})",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("arm")
    table.add_column("× native", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(row.label, *_numbers(row), row.sentence)
    return table


def _numbers(row: Comparison) -> tuple[str, str]:
    from remora.lab.report import numbers

    if row.ratio is None:
        return numbers.NONE, numbers.NONE
    places = numbers.ratio_places(row.ratio)
    ratio = numbers.fixed(row.ratio, places)
    if row.interval is None:
        return ratio, numbers.NONE
    ends = (numbers.fixed(each, places) for each in (row.interval.low, row.interval.high))
    return ratio, " – ".join(ends)
