"""``--every``, which two services take: of the one that runs, or each by a name of its own."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from remora.core.errors import BadValue

Every = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="N",
        help="Check one step in N, or checkpoint every N steps: whichever of them is asked for.",
    ),
]


class Intervals(NamedTuple):
    """As text: each service reads its own."""

    check: str = "1"
    checkpoint: str = "auto"


def intervals(
    every: str | None,
    check_every: str | None,
    checkpoint_every: str | None,
    *,
    checks: bool,
    checkpoints: bool,
) -> Intervals:
    """How often each service does what it does.

    Raises:
        BadValue: ``--every`` may mean both or none, or an interval is of a service that is not
            asked for.
    """
    if check_every is not None and not checks:
        raise BadValue(f"--check-every {check_every}: nothing is checked; add --check FILE")
    if checkpoint_every is not None and not checkpoints:
        raise BadValue(f"--checkpoint-every {checkpoint_every}: add --checkpoint DIR")
    if every is not None:
        _check_means_one(every, checks, checkpoints)
        if check_every is not None or checkpoint_every is not None:
            raise BadValue(f"--every {every} says what a longer option says as well; give one")
        check_every, checkpoint_every = (every, None) if checks else (None, every)
    return Intervals(check_every or "1", checkpoint_every or "auto")


def _check_means_one(every: str, checks: bool, checkpoints: bool) -> None:
    if checks and checkpoints:
        raise BadValue(
            f"--every {every} may be of --check or of --checkpoint; "
            f"write --check-every {every} or --checkpoint-every {every}"
        )
    if not (checks or checkpoints):
        raise BadValue(f"--every {every}: add --check FILE or --checkpoint DIR")
