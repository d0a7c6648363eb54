"""Do something to every thread of this process, those that begin meanwhile included."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from remora.share.system import processes


def each_thread(settle: Callable[[int], None], proc: Path = processes.PROC) -> None:
    """Call ``settle`` with the number of each thread until no new one is found.

    A thread inherits from the one that starts it, so one that begins behind our back was started
    by one that was not settled yet; none is left once a look finds nobody new.

    Raises:
        OSError: from ``settle``, but for threads that have ended.
    """
    settled: set[int] = set()
    while new := set(processes.threads(os.getpid(), proc)) - settled:
        for thread in sorted(new):
            with contextlib.suppress(ProcessLookupError):
                settle(thread)
        settled |= new
