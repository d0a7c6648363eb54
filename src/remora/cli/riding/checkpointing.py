"""Options of `remora run` that save the job's state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from remora.core.errors import BadValue

if TYPE_CHECKING:
    from remora.tap.service import Service

PANEL = "Checkpoint"

Directory = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="DIR",
        help="Save the job's state in DIR; resume what is there.",
        rich_help_panel=PANEL,
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-every",
        metavar="auto|N",
        help="Steps between checkpoints; --every where nothing is checked.  [default: auto]",
        rich_help_panel=PANEL,
    ),
]
Keep = Annotated[
    int,
    typer.Option(
        "--keep", metavar="N", help="Checkpoints that stay; 2 or more.", rich_help_panel=PANEL
    ),
]
MaxOverhead = Annotated[
    str,
    typer.Option(
        "--max-overhead",
        metavar="SHARE",
        help="With --every auto: what saving may cost.",
        rich_help_panel=PANEL,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Start over; what is in DIR stays until the first checkpoint.",
        rich_help_panel=PANEL,
    ),
]
Progress = Annotated[
    Path | None,
    typer.Option(
        "--progress",
        metavar="FILE",
        help="With --checkpoint: append a line for every step.",
        rich_help_panel=PANEL,
    ),
]


def checkpointing(
    directory: Path | None,
    every: str,
    keep: int,
    max_overhead: str,
    fresh: bool,
    progress: Path | None,
    argv: list[str],
) -> list[Service]:
    """The service, if there is a folder for it."""
    if directory is None:
        return []
    from remora.checkpoint.ride.service import CheckpointService

    service = CheckpointService(
        directory,
        every=_steps(every),
        keep=keep,
        max_overhead=_share(max_overhead),
        fresh=fresh,
        progress=progress,
        command=argv,
    )
    return [service]


def _steps(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise BadValue(f"--every {text}: choose a number of steps from 1, or auto")
    return int(text)


def _share(text: str) -> float:
    """``2%`` or ``0.02``."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BadValue(f"--max-overhead {text}: choose a share of the time such as 2% or 0.02")
    return share
