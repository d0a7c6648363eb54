"""One learning from a job of several ranks: the first learns, the others say what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from remora.check.checker import Checker
from remora.check.invariants import read_invariants, says_something
from remora.check.learning import Learning
from remora.check.ranks.gathering import Gathering
from remora.check.ranks.kept import KeptTrace
from remora.core.ranks import Ranks


class RanksOfLearning:
    """This rank's part. In a job of one process there is no other.

    Args:
        say: told of each line for the user.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._gathering: Gathering | None = None

    def open(self, ranks: Ranks) -> None:
        """torch.distributed runs."""
        self._gathering = Gathering(ranks)

    def finish(self, part: Learning | KeptTrace) -> None:
        """The run is over: learn from all ranks, or hand over what this one did.

        Raises:
            InvariantsUnusable: the file cannot be written.
        """
        gathering = self._gathering
        if gathering is not None and gathering.rank:
            gathering.give(part.trace())
        elif isinstance(part, Learning):
            part.finish(self._others(gathering) if gathering is not None else ())

    def _others(self, gathering: Gathering) -> Iterator[tuple[int, bytes]]:
        for rank, trace in gathering.take():
            if trace is not None:
                yield rank, trace
            else:
                self._say(f"rank {rank} did not say what it did; nothing was learned from it")


def said_before(path: Path) -> frozenset[str]:
    """The functions that have to be watched to try what the file at ``path`` says, if it is there.

    Raises:
        InvariantsUnusable: it is no file of invariants.
    """
    if not says_something(path):
        return frozenset()
    return Checker(read_invariants(path).invariants, lambda _finding: None).functions
