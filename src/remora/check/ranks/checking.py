"""One check of a job of several ranks: they compare as it runs, and the first reports on all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from remora.check.ranks.arrival import AwaitedMeeting, world_of_process
from remora.check.ranks.gathering import Gathering
from remora.check.ranks.reports import merged
from remora.check.report import CheckReport
from remora.core.ranks import Ranks

REPORT_PATIENCE_S = 10.0
"""For each rank to come to its end; one that is later has died, or does something else."""


class RanksOfCheck:
    """This rank's part. In a job of one process there is none, and nothing is done.

    Args:
        say: told of each line for the user.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self.meeting = AwaitedMeeting(self._lost) if world_of_process() > 1 else None
        self._gathering: Gathering | None = None

    def open(self, ranks: Ranks) -> None:
        """torch.distributed runs."""
        if self._gathering is None:
            self._gathering = Gathering(ranks, patience_s=REPORT_PATIENCE_S)
        if self.meeting is not None:
            self.meeting.open(ranks)

    def is_first_to_tell(self, invariant: str) -> bool:
        """Whether no other rank has told of a violation of it: one line is enough for the user."""
        meeting = self.meeting
        return meeting is None or meeting.first(f"violated/{invariant}", 0, b"") is None

    def whole(self, report: CheckReport) -> CheckReport | None:
        """What all ranks found; None where that is another rank's to say."""
        gathering = self._gathering
        if gathering is None:
            return report
        if gathering.rank:
            given = gathering.give(msgspec.msgpack.encode(report))
            return None if given and gathering.was_heard() else report
        return merged([report, *self._others(gathering)])

    def _others(self, gathering: Gathering) -> Iterator[CheckReport]:
        for rank, found in gathering.take():
            if found is not None:
                yield msgspec.msgpack.decode(found, type=CheckReport)
            else:
                self._say(f"rank {rank} did not report; this is without what it found")

    def close(self) -> None:
        """The report is written."""
        if self._gathering is not None and not self._gathering.rank:
            self._gathering.hear()
        if self.meeting is not None:
            self.meeting.close()

    def _lost(self, why: str) -> None:
        self._gathering = None  # it would look for the same store
        self._say(f"{why}; ranks are not compared from now on")
