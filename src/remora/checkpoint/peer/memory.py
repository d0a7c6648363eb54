"""What a peer holds: the copies of several runs within one budget of memory. No sockets here."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from remora.checkpoint.tiers.contract import KEEP, Copy, Owner, check, check_owner, succeed
from remora.core.units import format_bytes

MAX_RUNS = 1024
"""A run that holds nothing takes a little memory too."""


class NoRoom(Exception):
    """The copy does not fit; the message says what takes the room."""


class Gone(Exception):
    """No such copy is held."""


@dataclass
class Held:
    """A copy's bytes, or those of one that is arriving: filled from the first to the last."""

    copy: Copy
    parts: list[mmap.mmap]
    filled: list[int] = field(default_factory=list)
    abandoned: bool = False
    readers: int = 0

    @property
    def whole(self) -> bool:
        return not self.abandoned and self.filled == list(self.copy.sizes)

    def room(self, part: int, offset: int, count: int) -> memoryview:
        """Where the next ``count`` bytes of ``part`` go.

        Raises:
            ValueError: they are not the next, or more than were announced.
        """
        if self.abandoned or not 0 <= part < len(self.parts) or offset != self.filled[part]:
            raise ValueError("a piece came out of turn")
        if count > self.copy.sizes[part] - offset:
            raise ValueError("more bytes came than were announced")
        return memoryview(self.parts[part])[offset : offset + count]

    def arrived(self, part: int, count: int) -> None:
        """The bytes that :meth:`room` was asked for are there, and have been checked."""
        self.filled[part] += count

    def abandon(self) -> None:
        """Give the memory back now, even while a slow job is still sending into it."""
        self.abandoned = True
        for part in self.parts:
            part.madvise(mmap.MADV_DONTNEED)


@dataclass
class _Run:
    owner: Owner | None = None
    held: list[Held] = field(default_factory=list)
    """Newest first."""
    arriving: Held | None = None

    def abandon(self) -> None:
        """What was arriving will not be whole."""
        if self.arriving is not None:
            self.arriving.abandon()
            self.arriving = None


class Memory:
    """The copies. Its methods may be called from any thread.

    Args:
        limit: bytes for copies, whole and arriving, of all runs together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._runs: dict[str, _Run] = {}
        self._retired: list[Held] = []
        self._guard = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are held or promised."""
        return sum(
            held.copy.nbytes
            for run in self._runs.values()
            for held in (*run.held, *([run.arriving] if run.arriving else ()))
        )

    def _run(self, name: str) -> _Run:
        return self._runs.get(name) or _Run()

    def owner(self, name: str) -> Owner | None:
        with self._guard:
            return self._run(name).owner

    def claim(self, name: str, run: str, who: str) -> Owner:
        """Make ``run`` the owner of what is held as ``name``.

        Raises:
            FolderInUse: it is another run's.
            NoRoom: there are too many runs.
        """
        with self._guard:
            if name not in self._runs and len(self._runs) >= MAX_RUNS:
                raise NoRoom(f"{MAX_RUNS} runs are held already; start another peer")
            known = self._run(name)
            newest = max((held.copy.generation for held in known.held), default=0)
            known.owner = succeed(known.owner, newest, run, who, f"the peer's {name!r}")
            known.abandon()
            self._runs[name] = known
            return known.owner

    def copies(self, name: str) -> list[Copy]:
        """Those that are whole, newest first."""
        with self._guard:
            return [held.copy for held in self._run(name).held]

    def begin(self, name: str, copy: Copy) -> Held | None:
        """Room for ``copy``; None if it is here already. Older copies of the run make way, all
        but one.

        Raises:
            ValueError: it is no copy.
            FolderInUse: it is not from the owner.
            Unowned: there is none.
            NoRoom: it does not fit.
        """
        check(copy)
        with self._guard:
            run = self._run(name)
            check_owner(run.owner, copy.session, f"the peer's {name!r}")
            if any(held.copy == copy for held in run.held):
                return None
            run.abandon()
            self._check_room(run, copy.nbytes)
            while self.used + copy.nbytes > self.limit:
                self._retire(run.held.pop())
            run.arriving = Held(copy, self._memory(copy), [0] * len(copy.sizes))
            return run.arriving

    def _check_room(self, run: _Run, nbytes: int) -> None:
        of_others = self.used - sum(held.copy.nbytes for held in run.held)
        newest = run.held[0].copy.nbytes if run.held else 0
        if nbytes + newest + of_others > self.limit:
            raise NoRoom(
                f"{format_bytes(nbytes)} do not fit: the newest copy of this run takes "
                f"{format_bytes(newest)}, other runs {format_bytes(of_others)}, of "
                f"{format_bytes(self.limit)}; give the peer more --memory"
            )

    def _retire(self, held: Held) -> None:
        """Keep its memory for the next copy: pages that are there already are filled at many times
        the speed of fresh ones."""
        if not held.readers:
            self._retired.append(held)

    def _memory(self, copy: Copy) -> list[mmap.mmap]:
        for held in self._retired:
            if held.copy.sizes == copy.sizes:
                self._retired.remove(held)
                return held.parts
        while self._retired and self.used + self._idle + copy.nbytes > self.limit:
            self._retired.pop(0)
        return _memory(copy)

    @property
    def _idle(self) -> int:
        return sum(held.copy.nbytes for held in self._retired)

    def commit(self, name: str, arrived: Held) -> None:
        """Keep ``arrived``, every byte of which has come.

        Raises:
            ValueError: bytes are missing.
            FolderInUse, Unowned: another owner has come in between.
        """
        with self._guard:
            run = self._run(name)
            check_owner(run.owner, arrived.copy.session, f"the peer's {name!r}")
            if run.arriving is not arrived or not arrived.whole:
                raise ValueError("the copy is not whole")
            run.arriving = None
            run.held = sorted((arrived, *run.held), key=lambda held: held.copy.age, reverse=True)

    def abandon(self, name: str, arriving: Held) -> None:
        """The rest of ``arriving`` will not come."""
        with self._guard:
            run = self._run(name)
            if run.arriving is arriving:
                run.abandon()

    def retain(self, name: str, keep: int = KEEP) -> None:
        """Let go of all but the newest ``keep``."""
        with self._guard:
            held = self._run(name).held
            while len(held) > max(keep, 1):
                self._retire(held.pop())

    @contextlib.contextmanager
    def reading(
        self, name: str, copy: Copy, part: int, offset: int, count: int
    ) -> Iterator[memoryview]:
        """At most ``count`` bytes from ``offset``; they stay as they are until the end.

        Raises:
            Gone: no such copy, or no such part of it, is held.
        """
        with self._guard:
            found = [held for held in self._run(name).held if held.copy == copy]
            if not found or not 0 <= part < len(copy.sizes) or offset < 0:
                raise Gone("no such copy is held here any more")
            found[0].readers += 1
        try:
            yield memoryview(found[0].parts[part])[offset : offset + count]
        finally:
            with self._guard:
                found[0].readers -= 1


def _memory(copy: Copy) -> list[mmap.mmap]:
    """Zeros for every part. Large pages are filled at several times the speed of small ones."""
    try:
        rooms = [mmap.mmap(-1, size) for size in copy.sizes]
    except OSError as error:
        raise NoRoom(
            f"the peer's machine has no {format_bytes(copy.nbytes)}: {error.strerror}"
        ) from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        for room in rooms:
            room.madvise(mmap.MADV_HUGEPAGE)
    return rooms
