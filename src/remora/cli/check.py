"""``remora check``: check invariants against recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remora.cli.console import plain_console
from remora.core.errors import BadValue


def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The invariants, ours or TrainCheck's.")
    ],
    traces: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Traces of runs, ours or TrainCheck's.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Where to write what was found: a .json or .html file."
        ),
    ] = None,
) -> None:
    """Check recorded runs as `remora run --check` does a running one. Exits 1 on a violation."""
    from remora.check.offline import check_run, read_for_traces
    from remora.check.report import shortened
    from remora.check.report_files import check_report_name, write_report

    if report is not None and len(traces) > 1:
        raise BadValue("--report takes one trace; run the command once for each")
    if report is not None:
        check_report_name(report)
    reading = read_for_traces(file)
    _print(*shortened([*reading.not_checked(live=False), *reading.checked_in_part()]))
    violated = False
    for place in traces:
        found, remarks = check_run(reading, place, _print)
        _print(*remarks, f"{place}: {found.summary()}")
        violated = violated or bool(found.violations)
        if report is not None:
            write_report(report, found, reading.invariants.invariants)
    if violated:
        raise typer.Exit(1)


def _print(*lines: str) -> None:
    for line in lines:
        plain_console().print(line, soft_wrap=True)
