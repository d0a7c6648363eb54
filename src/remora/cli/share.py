"""``remora share``: one device for a job that serves and jobs that train."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="share",
    help="Let best-effort jobs use what a high-priority job leaves of a device.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Let best-effort jobs use what a high-priority job leaves of a device."""
