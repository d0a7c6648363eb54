"""Options of `remora run` that check the run."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.core.errors import BadValue

if TYPE_CHECKING:
    from remora.check.services import CheckService

PANEL = "Check"


class OnViolation(Enum):
    """What ``--on-violation`` takes."""

    warn = "warn"
    raise_ = "raise"


Check = Annotated[
    list[Path] | None,
    typer.Option(
        "--check",
        metavar="FILE",
        help="Check the invariants of FILE, ours or TrainCheck's.",
        rich_help_panel=PANEL,
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        "--check-every",
        metavar="N",
        help="Check one step in N; --every where nothing is checkpointed.  [default: 1]",
        rich_help_panel=PANEL,
    ),
]
Report = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="With --check: a .json or .html file to write; repeatable.",
        rich_help_panel=PANEL,
    ),
]
WhenViolated = Annotated[
    OnViolation,
    typer.Option(
        "--on-violation",
        help="With --check: say it and go on, or end the program.",
        rich_help_panel=PANEL,
    ),
]


def checking(
    files: list[Path] | None,
    every: str,
    report: list[Path] | None,
    on_violation: OnViolation,
    program: str,
) -> CheckService | None:
    """The service, if there is a file to check."""
    if not files:
        if report:
            raise BadValue(f"--report {report[0]}: nothing is checked; add --check FILE")
        return None
    if len(files) > 1:
        raise BadValue(
            f"--check {files[0]} --check {files[1]}: give one file; "
            "`remora invariants merge` brings several together"
        )
    from remora.check.services import CheckService

    return CheckService(
        files[0],
        on_violation=on_violation.value,
        program=program,
        reports=tuple(report or ()),
        every=_steps(every),
    )


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise BadValue(f"--every {text}: to check, choose a number of steps from 1, such as 10")
    return int(text)
