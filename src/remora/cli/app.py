"""The ``remora`` command: its subcommands, and what becomes of errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from remora import __version__
from remora.cli import (
    bench,
    catalogue,
    check,
    checkpoint,
    compare,
    doctor,
    fleet,
    goodput,
    invariants,
    learn,
    plan,
    report,
    run,
    serve,
    share,
    status,
)
from remora.cli.grouped import Grouped
from remora.core.errors import UserError

app = typer.Typer(
    name="remora",
    help="Ride along with unmodified PyTorch jobs, and measure what that costs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run", cls=Grouped, context_settings=run.CONTEXT)(run.run)
app.command("learn")(learn.learn)
app.command("check")(check.check)
app.add_typer(invariants.app, name="invariants")
app.command("serve")(serve.serve)
app.add_typer(fleet.app, name="fleet")
share.app.command("plan")(plan.plan)
share.app.command("status")(status.status)
app.add_typer(share.app, name="share")
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.command("list")(catalogue.catalogue)
checkpoint.app.command("goodput")(goodput.goodput)
app.add_typer(checkpoint.app, name="checkpoint")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(f"remora {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 our defect, 2 the user's mistake."""
    try:
        app(args=arguments)
    except UserError as error:
        print(f"remora: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        print(
            f"remora: this is a defect in Remora {__version__}, not in what you did; "
            "please report it with the lines above",
            file=sys.stderr,
        )
        sys.exit(1)
