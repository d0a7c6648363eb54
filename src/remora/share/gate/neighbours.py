"""The high-priority jobs of one gate, as a best-effort job looks after them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from remora.core.errors import RosterUnusable
from remora.share.gate.memory import Memory
from remora.share.gate.watching import Lines
from remora.share.system import processes
from remora.share.system.roster import Roster


class Neighbours:
    """Looks when it is called: see :class:`~remora.share.gate.waiting.Waiting`."""

    def __init__(self, roster: Roster, memory: Memory, proc: Path = processes.PROC) -> None:
        self._roster, self._memory, self._proc = roster, memory, proc
        self._lines = Lines()

    def __call__(self) -> Collection[int]:
        owners = self._memory.owners()
        jobs = {key: self._roster.find(key) for key in owners if key is not None}
        if any(job is None for job in jobs.values()):
            with contextlib.suppress(RosterUnusable):  # somebody is at it, or there will be a next
                self._memory.free_dead()
        self._lines.keep(key for key, job in jobs.items() if job is not None)
        return [
            place
            for place, key in enumerate(owners)
            if key is not None and (job := jobs[key]) is not None and self._is_stopped(job.pid)
        ]

    def close(self) -> None:
        """Nobody is looked after any more."""
        self._lines.let_go()

    def _is_stopped(self, pid: int) -> bool:
        found = processes.stat(pid, self._proc)
        return found is not None and found.state == "T"
