"""``remora share status``: who runs, who waits, and what best effort got."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from remora.cli.console import plain_console
from remora.core.units import format_seconds

if TYPE_CHECKING:
    from remora.share.system.status import JobStatus, Status


def status(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say which jobs share this machine, how they fare, and what best effort got."""
    import msgspec

    from remora.share.system.roster import Roster
    from remora.share.system.runtime_folder import runtime_folder
    from remora.share.system.status import status as look

    roster = Roster(runtime_folder())
    roster.sweep()
    found = look(roster)
    if json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _show(found)


def _show(found: Status) -> None:
    console = plain_console()
    if found.jobs:
        console.print(_table(found.jobs))
    else:
        console.print(
            "no job runs at a priority; start one with: remora run --priority high SCRIPT"
        )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)


_COLUMNS = ("pid", "priority", "by", "state", "for", "turnaround", "CPU", "rest")


def _table(jobs: list[JobStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    table.add_column("script", overflow="fold")
    for job in jobs:
        table.add_row(*_cells(job))
    return table


def _cells(job: JobStatus) -> list[str]:
    program, _, arguments = job.script.partition(" ")
    since_s = max(0.0, time.time() - job.since_s)
    return [
        str(job.pid),
        job.priority,
        "–" if job.mechanism == "none" else job.mechanism,
        job.state,
        format_seconds(since_s),
        "–" if job.turnaround_ms is None else format_seconds(job.turnaround_ms / 1e3),
        "–" if job.cpu_s is None else format_seconds(job.cpu_s),
        "–" if job.got_of_left is None else f"{job.got_of_left:.0%}",
        f"{Path(program).name} {arguments}".strip(),
    ]
