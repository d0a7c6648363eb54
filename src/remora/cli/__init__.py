"""The command line."""

from __future__ import annotations

import sys

import typer

from remora.cli import run
from remora.core.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("run", context_settings=run.CONTEXT)(run.run)


@app.callback()
def root() -> None:
    """Remora rides along with PyTorch jobs."""


def main() -> int:
    try:
        app()
    except UserError as error:
        print(f"remora: {error}", file=sys.stderr)
        return error.exit_code
    return 0
