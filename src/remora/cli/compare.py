"""``remora compare``: a regression gate between two results folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.units import parse_fraction

if TYPE_CHECKING:
    from remora.lab.compare import Changed, Comparison


def compare(
    before: Annotated[Path, typer.Argument(help="Results folder A, the reference.")],
    after: Annotated[Path, typer.Argument(help="Results folder B, the candidate.")],
    margin: Annotated[str, typer.Option(help="Changes within this count as the same.")] = "5%",
    force: Annotated[
        bool, typer.Option("--force", help="Compare although the environments differ.")
    ] = False,
) -> None:
    """Compare every system's overhead in B with the one in A.

    Exit code 0: the same or better; 1: worse; 3: undecided.
    """
    from remora.lab.packages import require_lab_packages

    require_lab_packages()
    from remora.lab.compare import compare_folders
    from remora.lab.folder import Folder

    found = compare_folders(
        Folder.open(before), Folder.open(after), margin=parse_fraction(margin), force=force
    )
    _print(found, plain_console())
    raise typer.Exit(found.exit_code)


def _print(found: Comparison, console: Console) -> None:
    table = Table(title="Overhead of B against A", title_justify="left", title_style="bold")
    table.add_column("arm")
    table.add_column("B / A", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("p (Holm)", justify="right")
    table.add_column("verdict")
    for row in found.rows:
        table.add_row(row.arm, *_numbers(row), row.change)
    console.print(table)
    for each in found.environments:
        console.print(f"note: compared by force although they differ in {each}")
    for where, names in (("A", found.only_in_a), ("B", found.only_in_b)):
        if names:
            console.print(f"note: only in {where}: {', '.join(names)}")
    console.print(f"verdict: {found.change}")


def _numbers(row: Changed) -> tuple[str, str, str]:
    if row.ratio is None or row.interval is None:
        return "–", "–", "–"
    interval = f"{row.interval.low:.3f} – {row.interval.high:.3f}"
    p = "–" if row.p_holm is None else f"{row.p_holm:.2g}"
    return f"{row.ratio:.3f}", interval, p
