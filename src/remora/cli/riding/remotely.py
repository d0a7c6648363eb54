"""Options of `remora run` that run the program's models elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remora.tap.service import Service

PANEL = "Remote"

Address = Annotated[
    str | None,
    typer.Option(
        "--remote",
        metavar="ADDRESS",
        help="Run the program's models on the server there (see `remora serve`).",
        rich_help_panel=PANEL,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="What that server wants to hear.",
        rich_help_panel=PANEL,
    ),
]


def remotely(address: str | None, token_file: Path | None) -> list[Service]:
    """The service, if it is asked for; connected already.

    Raises:
        ServerLost: nobody answers there.
        Refused: the server does not take this program.
    """
    if address is None:
        return []
    from remora.remote.client.server import connect
    from remora.remote.riding.service import Remote

    return [Remote(connect(address, token_file=token_file))]
