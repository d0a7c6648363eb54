"""When the ranks of a job have found each other, which is when torch.distributed says so."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable

from remora.check.ranks.meeting import Meeting, Said
from remora.check.ranks.store import StoreMeeting
from remora.core.ranks import Ranks, running_ranks
from remora.tap.job import Job

_meetings = itertools.count()


def world_of_process() -> int:
    """How many ranks the job has: as torch.distributed says, or else torchrun; 1 without either."""
    if (ranks := _running()) is not None:
        return ranks.world
    text = os.environ.get("WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdigit() else 1


def when_ranks_run(job: Job, then: Callable[[Ranks], object]) -> None:
    """Call ``then`` once torch.distributed runs more than one rank; now, if it does."""
    if (ranks := _running()) is not None:
        then(ranks)
        return
    job.calls.watch(
        "torch.distributed.init_process_group",
        after=lambda _token, _result: (ranks := running_ranks()) and then(ranks),
    )


def _running() -> Ranks | None:
    return running_ranks() if "torch.distributed" in sys.modules else None


class AwaitedMeeting(Meeting):
    """A meeting at which nobody is heard before torch.distributed runs.

    Every rank makes as many of these as every other, in the same order.

    Args:
        lost: told, once, why nobody is heard any more.
    """

    def __init__(self, lost: Callable[[str], object]) -> None:
        super().__init__(0, world_of_process())
        self._prefix, self._lost = f"remora/check/{next(_meetings)}", lost
        self._inner: StoreMeeting | None = None

    def open(self, ranks: Ranks) -> None:
        if self._inner is None:
            self.rank, self.world = ranks.rank, ranks.world
            self._inner = StoreMeeting(ranks, self._prefix, self._lost)

    def first(self, topic: str, number: int, words: bytes) -> Said | None:
        return self._inner.first(topic, number, words) if self._inner is not None else None

    def tell(self, key: str, value: bytes) -> None:
        if self._inner is not None:
            self._inner.tell(key, value)

    def told(self, key: str) -> bytes | None:
        return self._inner.told(key) if self._inner is not None else None

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
