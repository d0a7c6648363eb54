"""``remora list``: the experiments, workloads and systems there are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.errors import Unavailable


class Kind(StrEnum):
    """What can be listed."""

    all = "all"
    experiments = "experiments"
    workloads = "workloads"
    systems = "systems"


def catalogue(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.all,
) -> None:
    """List the experiments, workloads and systems, those of other packages included."""
    console = plain_console()
    if kind in (Kind.all, Kind.experiments):
        console.print(_experiments())
    if kind in (Kind.all, Kind.workloads):
        console.print(_workloads())
    if kind in (Kind.all, Kind.systems):
        console.print(_systems())


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _experiments() -> Table:
    from remora.experiments import registry

    table = _table("Experiments", "name", "question", "scales", "rows with a name")
    for name in registry.names():
        design = registry.get(name)
        rows = ", ".join(design.named_rows()) or "–"
        table.add_row(name, design.question, ", ".join(design.efforts), rows)
    return table


def _workloads() -> Table:
    from remora.workloads import registry

    table = _table("Workloads", "name", "source of its sizes")
    for name in registry.names():
        table.add_row(name, registry.get(name).source)
    for name, reason in registry.broken().items():
        table.add_row(name, f"broken: {reason}")
    return table


def _systems() -> Table:
    from remora.systems import registry

    table = _table("Systems", "name", "what it is", "options")
    for name in registry.names():
        try:
            system = registry.create(name)
        except Unavailable as error:
            table.add_row(name, f"broken: {error}", "–")
            continue
        options = ", ".join(f"{key}={value}" for key, value in system.settings().items())
        table.add_row(name, system.title, options or "–")
    return table
