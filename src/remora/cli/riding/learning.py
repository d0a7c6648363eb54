"""Options of `remora run` that learn from the run, or record it to learn from it later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remora.core.errors import BadValue
from remora.tap.service import Service

PANEL = "Learn and record"

Learn = Annotated[
    Path | None,
    typer.Option(
        "--learn",
        metavar="FILE",
        help="Learn invariants of this run into FILE.",
        rich_help_panel=PANEL,
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="DIR",
        help="Record the run as a trace in DIR.",
        rich_help_panel=PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="With --record: replace the trace in DIR.", rich_help_panel=PANEL
    ),
]


def learning(
    learn: Path | None,
    record: Path | None,
    overwrite: bool,
    program: str,
    watch: list[str] | None = None,
) -> list[Service]:
    """The services that are asked for."""
    if overwrite and record is None:
        raise BadValue("--overwrite: nothing is recorded; add --record DIR")
    if learn is None and record is None:
        return []
    from remora.check.services import LearnService, RecordService

    services: list[Service] = []
    if learn is not None:
        services.append(LearnService(learn, program=program, watch=tuple(watch or ())))
    if record is not None:
        also = tuple(watch or ())
        services.append(RecordService(record, program=program, watch=also, overwrite=overwrite))
    return services
