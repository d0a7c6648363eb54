"""Options of `remora run` that say what the program did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remora.tap.service import Service

PANEL = "Observe"

Observe = Annotated[
    bool,
    typer.Option(
        "--observe", help="Say at the end what the program did and held.", rich_help_panel=PANEL
    ),
]
Watch = Annotated[
    list[str] | None,
    typer.Option(
        "--watch",
        metavar="NAME",
        help="Count and time calls of this function; with --learn or --record, learn of it beside "
        "torch's; repeatable.",
        rich_help_panel=PANEL,
    ),
]
ObserveJson = Annotated[
    Path | None,
    typer.Option(
        "--observe-json",
        metavar="FILE",
        help="Write what was observed as JSON.",
        rich_help_panel=PANEL,
    ),
]


def observing(
    observe: bool, watch: list[str] | None, observe_json: Path | None, *, learns: bool = False
) -> list[Service]:
    """The service, if any of them asks for it. What ``learns`` takes the watched for itself."""
    if not (observe or observe_json or (watch and not learns)):
        return []
    from remora.tap.observe import Observe

    return [Observe(watch=tuple(watch or ()), json_file=observe_json)]
