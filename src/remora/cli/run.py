"""``remora run``: run an unmodified program, with services riding along."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from remora.cli.riding import checking, checkpointing, learning, observing, remotely, sharing
from remora.cli.riding.every import Every, intervals

CONTEXT: dict[str, Any] = {"allow_interspersed_args": False}
"""Options end where the script begins: everything after it is the script's."""

_EXCEPTHOOK = sys.excepthook
"""As Python started: typer puts its own in place, which a script must not find."""

Argv = Annotated[
    list[str],
    typer.Argument(metavar="SCRIPT [ARGUMENTS]...", help="What to run, and its arguments."),
]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is a module, as for `python -m`.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Let a failing service take the program down; exit 1 on a violation."
    ),
]


def run(
    argv: Argv,
    module: Module = False,
    strict: Strict = False,
    every: Every = None,
    observe: observing.Observe = False,
    watch: observing.Watch = None,
    observe_json: observing.ObserveJson = None,
    learn: learning.Learn = None,
    record: learning.Record = None,
    overwrite: learning.Overwrite = False,
    check: checking.Check = None,
    check_every: checking.Every = None,
    report: checking.Report = None,
    on_violation: checking.WhenViolated = checking.OnViolation.warn,
    checkpoint: checkpointing.Directory = None,
    checkpoint_every: checkpointing.Every = None,
    keep: checkpointing.Keep = 3,
    max_overhead: checkpointing.MaxOverhead = "2%",
    fresh: checkpointing.Fresh = False,
    progress: checkpointing.Progress = None,
    remote: remotely.Address = None,
    token_file: remotely.TokenFile = None,
    priority: sharing.RunPriority = None,
    exclusive: sharing.Exclusive = False,
    share_mechanism: sharing.Mechanism = None,
    share_threads: sharing.Threads = None,
) -> None:
    """Run a Python program, unmodified, with services riding along.

    Options of Remora come before the script; everything after it belongs to the script.
    """
    share = sharing.sharing(priority, share_mechanism, share_threads, argv, exclusive=exclusive)
    from remora.tap.launch import run_script

    steps = intervals(
        every, check_every, checkpoint_every, checks=bool(check), checkpoints=bool(checkpoint)
    )
    checker = checking.checking(check, steps.check, report, on_violation, argv[0])
    learns = learn is not None or record is not None
    services = [
        *share,
        *observing.observing(observe, watch, observe_json, learns=learns),
        *checkpointing.checkpointing(
            checkpoint, steps.checkpoint, keep, max_overhead, fresh, progress, argv
        ),
        *learning.learning(learn, record, overwrite, argv[0], watch),
        *([checker] if checker is not None else ()),
        *remotely.remotely(remote, token_file),
    ]
    code = run_script(argv, services, module=module, strict=strict, excepthook=_EXCEPTHOOK)
    if strict and checker is not None and checker.found_any:
        code = code or 1
    raise SystemExit(code)
