"""Options of `remora run` that let jobs share a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from remora.core.errors import BadValue, UnknownName
from remora.share.policies.contract import Priority
from remora.tap.service import Service

PANEL = "Share"

RunPriority = Annotated[
    str | None,
    typer.Option(
        "--priority",
        metavar="high|best-effort",
        help="high: others give way. best-effort: take what is left of the CPU and the GPU.",
        rich_help_panel=PANEL,
    ),
]
Exclusive = Annotated[
    bool,
    typer.Option(
        "--exclusive",
        help="With --priority high: be the only such job, or do not start.",
        rich_help_panel=PANEL,
    ),
]
Mechanism = Annotated[
    str | None,
    typer.Option(
        "--share-mechanism",
        metavar="NAME",
        help="How to give way: idle, nice, cgroup, stop, gate or none.  "
        "[default: gate where there is an NVIDIA device, else idle]",
        rich_help_panel=PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--share-threads",
        metavar="N",
        help="Threads in each pool of this job: OpenMP, MKL, OpenBLAS.",
        rich_help_panel=PANEL,
    ),
]


def sharing(
    priority: str | None,
    mechanism: str | None,
    threads: int | None,
    argv: list[str],
    *,
    exclusive: bool,
) -> list[Service]:
    """The service, if it is asked for. To be called before anything imports torch.

    Raises:
        UnknownName: no such priority or mechanism.
        BadValue: options that do not go together.
    """
    if priority is None:
        _check_not_needed(mechanism, threads, exclusive)
        return []
    known = [each.value for each in Priority]
    if priority not in known:
        raise UnknownName("priority", priority, known)
    from remora.share.system import openmp
    from remora.share.system.mechanisms.registry import parse_choice
    from remora.share.system.service import Share

    choice = None if mechanism is None else parse_choice(mechanism)
    service = Share(Priority(priority), choice, exclusive=exclusive, command=argv)
    openmp.settle(threads)
    return [service]


def _check_not_needed(mechanism: str | None, threads: int | None, exclusive: bool) -> None:
    given = {
        "--exclusive": exclusive,
        f"--share-mechanism {mechanism}": mechanism is not None,
        f"--share-threads {threads}": threads is not None,
    }
    for option in (option for option, is_given in given.items() if is_given):
        raise BadValue(f"{option}: the job has no priority; add --priority high or best-effort")
