"""What every rank has at its end, brought to the first: what it did, or what it found."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from contextlib import suppress

from remora.core.ranks import Board, Ranks

PATIENCE_S = 60.0
"""For each rank: it may still save its model, or may have died."""
HEARD_PATIENCE_S = 10.0
"""For the first rank to take what was given: it comes to its end when the others do."""
PART_BYTES = 1 << 20
"""A store takes no more than some megabytes at a time."""
_gatherings = itertools.count()


class Gathering:
    """One rank's end. Every rank makes as many of these as every other, in the same order.

    The connections are of its own: the program may end torch.distributed before it ends.
    """

    def __init__(self, ranks: Ranks, *, patience_s: float = PATIENCE_S) -> None:
        self.rank, self.world = ranks.rank, ranks.world
        self._store = ranks.store  # the store may be in this process, and goes with the last of us
        prefix = f"remora/check/gathering/{next(_gatherings)}"
        self._board = Board(ranks.store, prefix, patience_s=patience_s)
        self._heard = Board(ranks.store, prefix, patience_s=HEARD_PATIENCE_S)

    def give(self, what: bytes) -> bool:
        """Hand over what this rank has; whether that went."""
        packed = zlib.compress(what, level=1)
        parts = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
        try:
            for number, part in enumerate(parts):
                self._board.put(f"{self.rank}/{number}", part)
            self._board.put(f"{self.rank}", len(parts))
        except RuntimeError:  # the store is gone
            return False
        return True

    def was_heard(self) -> bool:
        """Whether the first rank took what was given, and was done with it; waited for."""
        try:
            return bool(self._heard.get("heard"))
        except TimeoutError:
            return False

    def hear(self) -> None:
        """The first rank is done."""
        with suppress(RuntimeError):
            self._board.put("heard", True)

    def take(self) -> Iterator[tuple[int, bytes | None]]:
        """Every other rank, and what it gave; None where that did not come in time."""
        for rank in range(self.world):
            if rank != self.rank:
                yield rank, self._of(rank)

    def _of(self, rank: int) -> bytes | None:
        try:
            count = self._board.get(f"{rank}")
            return zlib.decompress(b"".join(self._part(rank, n) for n in range(count)))
        except (TimeoutError, RuntimeError, zlib.error):
            return None

    def _part(self, rank: int, number: int) -> bytes:
        part: bytes = self._board.get(f"{rank}/{number}")
        self._board.drop(f"{rank}/{number}")
        return part
