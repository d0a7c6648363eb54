"""Check invariants from within a program: ``with remora.check.watch("healthy.inv"): …``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remora.check.services import CheckService, OnViolation
from remora.tap.job import Job


@contextmanager
def watch(
    path: str | os.PathLike[str],
    *,
    on_violation: OnViolation = "warn",
    report: str | os.PathLike[str] | None = None,
    every: int = 1,
) -> Iterator[CheckService]:
    """Check the invariants of a file within the block, in all threads of this process.

    Args:
        path: the file of invariants, ours or TrainCheck's.
        on_violation: ``"warn"`` says the first violation of each invariant on stderr; ``"raise"``
            raises it where it is found, out of the call that showed it; a function is called with
            the :class:`~remora.check.report.Violation`. One that raises itself is not called again.
        report: a file to write at the end, ``.json`` or ``.html``.
        every: check one step in so many; in between, watched functions are called straight.

    Gives the service: ``report()`` says at any time what has come of it so far.

    Raises:
        InvariantsUnusable: the file is missing, damaged or of another kind.
        BadValue: ``every`` is no number of steps from 1, or ``report`` tells no kind.
        InvariantViolated: with ``"raise"``, from the code within the block.
    """
    reports = (Path(report),) if report is not None else ()
    service = CheckService(Path(path), on_violation=on_violation, reports=reports, every=every)
    job = Job()
    job.attach(service)
    try:
        yield service
    finally:
        job.finish()
