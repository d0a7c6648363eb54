"""The contract of a shelf: a place away from this machine that keeps copies of checkpoints.

A copy is the checkpoint's files, byte for byte, and it is there whole or not at all. A shelf
belongs to one run. Who writes to it next takes it over, and its *generation* grows by one, so that
a job that was believed dead finds out before it can spoil what its successor does.
``tests/conformance/test_shelf.py`` holds every shelf to this.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remora.checkpoint.layout.records import ROOT_BYTES, Entry
from remora.core.errors import FolderInUse

MAX_PART_BYTES = 2**50
PIECE_BYTES = 8 * 2**20
"""The most bytes that are handed to a shelf at once."""
KEEP = 2
"""Copies that stay: with one, damage to it would leave nothing."""


@dataclass(frozen=True)
class Owner:
    """Who writes to a shelf."""

    run: str
    """The same for every job that goes on with one training."""
    session: str
    """Of one job alone."""
    generation: int
    """One more than that of the owner before."""
    who: str
    """Host and process, for people to read."""


@dataclass(frozen=True)
class Copy:
    """A checkpoint on a shelf."""

    generation: int
    session: str
    entry: Entry
    sizes: tuple[int, ...]
    """Bytes of each of its files, in the order of the ranks."""

    @property
    def age(self) -> tuple[int, int]:
        """Greater is newer. A sequence means something within one generation only."""
        return self.generation, self.entry.sequence

    @property
    def nbytes(self) -> int:
        return sum(self.sizes)


Part = Iterable[memoryview]
"""One file's bytes, in pieces of at most :data:`PIECE_BYTES`; each is valid until the next."""


class Unowned(OSError):
    """Nobody owns the place any more, as after a peer was restarted: claim it, and try again."""


class Shelf(ABC):
    """One run's copies. Every method may be called from any thread, :meth:`put` from one at a time.

    What goes wrong on the way there raises OSError and may be tried again.
    """

    place: str
    """Where it is, for people to read."""

    @abstractmethod
    def owner(self) -> Owner | None:
        """Who wrote here last; None if nobody did."""

    @abstractmethod
    def claim(self, run: str, who: str) -> Owner:
        """Become the owner.

        Raises:
            FolderInUse: it belongs to another run.
        """

    @abstractmethod
    def copies(self) -> list[Copy]:
        """Those that are whole, newest first."""

    @abstractmethod
    def put(self, copy: Copy, parts: Sequence[Part]) -> None:
        """Keep ``copy``, of the owner that :meth:`claim` gave: on return it is there whole.

        Putting what is there already does nothing. Whatever iterating over ``parts`` raises comes
        through, and there is no such copy then.

        Raises:
            FolderInUse: another job has become the owner.
            Unowned: nobody is.
        """

    @abstractmethod
    def retain(self, keep: int) -> None:
        """Remove all but the newest ``keep`` copies, and what failed puts have left."""

    @abstractmethod
    def pread(self, copy: Copy, part: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of the part; less only where it ends.

        Raises:
            FileNotFoundError: the copy is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Calling it twice does no harm."""


def succeed(known: Owner | None, newest: int, run: str, who: str, place: str) -> Owner:
    """The owner that follows ``known``; ``newest`` is the highest generation of any copy.

    Raises:
        FolderInUse: ``known`` is of another run.
    """
    if known is not None and known.run != run:
        raise FolderInUse(
            f"{place} holds checkpoints of another run, last written by {known.who}; choose "
            "another place, or restore from it first to go on with that run"
        )
    generation = max(known.generation if known else 0, newest) + 1
    return Owner(run, secrets.token_hex(4), generation, who)


def check_owner(owner: Owner | None, session: str, place: str) -> None:
    """
    Raises:
        FolderInUse: ``owner`` is another job than that of ``session``.
        Unowned: there is none.
    """
    if owner is None:
        raise Unowned(f"{place} belongs to nobody any more")
    if owner.session != session:
        raise FolderInUse(
            f"{place} was taken over: it belongs to {owner.who}, and this job writes no more"
        )


def check(copy: Copy) -> Copy:
    """``copy``, which somebody else wrote, if it can be one.

    Raises:
        ValueError: a number is out of its range.
    """
    entry = copy.entry
    words = (copy.generation, entry.sequence, entry.step, entry.nbytes, entry.time_ns)
    if not all(0 <= word < 2**63 for word in words):
        raise ValueError("a number is out of its range")
    if not 0 <= entry.slot < 2**16 or not 1 <= entry.parts < 2**16 or len(entry.root) != ROOT_BYTES:
        raise ValueError("not an entry")
    if len(copy.sizes) != entry.parts or not all(0 < size <= MAX_PART_BYTES for size in copy.sizes):
        raise ValueError("sizes do not fit the parts")
    if not (copy.session.isalnum() and copy.session.isascii() and len(copy.session) <= 32):
        raise ValueError("not a session")
    return copy
