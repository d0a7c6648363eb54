"""Jobs in a roster that are nothing but their entries."""

from __future__ import annotations

import os
import time

from remora.share.policies.contract import Priority
from remora.share.system import processes
from remora.share.system.roster import Entry, Place, Roster, new_key


class Members:
    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._places: dict[str, Place] = {}

    def join(self, pid: int | None = None, started_ticks: int | None = None) -> str:
        """The key of one more job: by default this process is it."""
        key, pid = new_key(), pid or os.getpid()
        entry = Entry(
            *(key, pid, "job", Priority.HIGH, time.time()),
            started_ticks=started_ticks, pid_namespace=processes.pid_namespace(),
        )  # fmt: skip
        self._places[key] = self._roster.join(entry)
        return key

    def die(self, key: str) -> None:
        """As when its process is killed: the file stays, and nobody holds it."""
        self._places.pop(key).close()

    def leave(self) -> None:
        for place in self._places.values():
            place.leave()
