"""``remora learn``: learn invariants from recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remora.cli.console import plain_console


def learn(
    traces: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Traces of healthy runs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write, or replace.")
    ],
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            "--held-out",
            metavar="DIR",
            help="Trace of a healthy run not learned from: what fails in it is dropped; "
            "repeatable.",
        ),
    ] = None,
) -> None:
    """Learn the invariants that hold in every recorded run, all of them taken together.

    What has been learned is then checked against the same runs, and what fails is dropped.
    """
    from remora.check.invariants import write_invariants
    from remora.check.offline import learn_from

    taught = learn_from(traces, held_out or ())
    write_invariants(output, taught.invariants)
    console = plain_console()
    for line in (*taught.remarks, *(one.line() for one in taught.dropped)):
        console.print(line, soft_wrap=True)
    for tried in taught.invariants.header.held_out:
        console.print(
            f"held out {tried.program} ({tried.steps:,} steps): {len(tried.dropped)} dropped",
            soft_wrap=True,
        )
    console.print(f"{taught.invariants.in_words()} in {output}", soft_wrap=True)
