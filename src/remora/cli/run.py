"""``remora run``: run an unmodified program, with services riding along."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from remora.core.errors import BadValue

if TYPE_CHECKING:
    from remora.check.services import CheckService
    from remora.tap.service import Service

CONTEXT: dict[str, Any] = {"allow_interspersed_args": False}
"""Options end where the script begins: everything after it is the script's."""


class OnViolation(Enum):
    """What ``--on-violation`` takes."""

    warn = "warn"
    raise_ = "raise"


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
            "--watch",
            metavar="NAME",
            help="Count and time calls of this function; with --learn or --record, learn of it "
            "beside torch's; repeatable.",
        ),
    ] = None,
    observe_json: Annotated[
        Path | None,
        typer.Option("--observe-json", metavar="FILE", help="Write what was observed as JSON."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="DIR", help="Save the job's state in DIR; resume what is there."
        ),
    ] = None,
    every: Annotated[
        str, typer.Option("--every", metavar="auto|N", help="Steps between checkpoints.")
    ] = "auto",
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", help="Checkpoints that stay; 2 or more.")
    ] = 3,
    max_overhead: Annotated[
        str,
        typer.Option(
            "--max-overhead", metavar="SHARE", help="With --every auto: what saving may cost."
        ),
    ] = "2%",
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Start over; what is in DIR stays until the first checkpoint."
        ),
    ] = False,
    progress: Annotated[
        Path | None,
        typer.Option(
            "--progress", metavar="FILE", help="With --checkpoint: append a line for every step."
        ),
    ] = None,
    learn: Annotated[
        Path | None,
        typer.Option("--learn", metavar="FILE", help="Learn invariants of this run into FILE."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Record the run as a trace in DIR."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --record: replace the trace in DIR.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check the invariants of FILE at every step."),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="With --check: a .json or .html file to write; repeatable.",
        ),
    ] = None,
    on_violation: Annotated[
        OnViolation,
        typer.Option("--on-violation", help="With --check: say it and go on, or end the program."),
    ] = OnViolation.warn,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Let a failing service take the program down; exit 1 on a violation.",
        ),
    ] = False,
) -> None:
    """Run a Python program, unmodified, with services riding along.

    Options of Remora come before the script; everything after it belongs to the script.
    """
    from remora.tap.launch import run_script

    services: list[Service] = []
    checking: CheckService | None = None
    learns = learn is not None or record is not None
    if observe or observe_json or (watch and not learns):
        from remora.tap.observe import Observe

        services.append(Observe(watch=tuple(watch or ()), json_file=observe_json))
    if checkpoint is not None:
        services.append(
            _checkpointing(checkpoint, every, keep, max_overhead, fresh, progress, argv)
        )
    if learn is not None:
        from remora.check.services import LearnService

        services.append(LearnService(learn, program=argv[0], watch=tuple(watch or ())))
    if record is not None:
        from remora.check.services import RecordService

        services.append(
            RecordService(record, program=argv[0], watch=tuple(watch or ()), overwrite=overwrite)
        )
    if check is not None:
        from remora.check.services import CheckService

        checking = CheckService(
            check, on_violation=on_violation.value, program=argv[0], reports=tuple(report or ())
        )
        services.append(checking)
    code = run_script(argv, services, module=module, strict=strict, excepthook=_EXCEPTHOOK)
    if strict and checking is not None and checking.found_any:
        code = code or 1
    raise SystemExit(code)


def _checkpointing(
    directory: Path,
    every: str,
    keep: int,
    max_overhead: str,
    fresh: bool,
    progress: Path | None,
    argv: list[str],
) -> Service:
    from remora.checkpoint.ride.service import CheckpointService

    return CheckpointService(
        directory,
        every=_steps(every),
        keep=keep,
        max_overhead=_share(max_overhead),
        fresh=fresh,
        progress=progress,
        command=argv,
    )


def _steps(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
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
