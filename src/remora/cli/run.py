"""``remora run``: run an unmodified program, with services riding along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from remora.tap.service import Service

CONTEXT: dict[str, Any] = {"allow_interspersed_args": False}
"""Options end where the script begins: everything after it is the script's."""

_EXCEPTHOOK = sys.excepthook
"""As Python started: typer puts its own in place, which a script must not find."""


def run(
    argv: Annotated[
        list[str],
        typer.Argument(metavar="SCRIPT [ARGUMENTS]...", help="What to run, and its arguments."),
    ],
    module: Annotated[
        bool, typer.Option("-m", help="SCRIPT is a module, as for `python -m`.")
    ] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Say at the end what the program did and held.")
    ] = False,
    watch: Annotated[
        list[str] | None,
        typer.Option(
            "--watch", metavar="NAME", help="Count and time calls of this function; repeatable."
        ),
    ] = None,
    observe_json: Annotated[
        Path | None,
        typer.Option("--observe-json", metavar="FILE", help="Write what was observed as JSON."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Let a failing service take the program down.")
    ] = False,
) -> None:
    """Run a Python program, unmodified, with services riding along.

    Options of Remora come before the script; everything after it belongs to the script.
    """
    from remora.tap.launch import run_script

    services: list[Service] = []
    if observe or watch or observe_json:
        from remora.tap.observe import Observe

        services.append(Observe(watch=tuple(watch or ()), json_file=observe_json))
    code = run_script(argv, services, module=module, strict=strict, excepthook=_EXCEPTHOOK)
    raise SystemExit(code)
