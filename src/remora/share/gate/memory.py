"""What processes tell each other by: a small file for each device, mapped by all its jobs.

It has a slot for each high-priority job: how many requests have begun, and up to which of them the
device is done. The gate is open where both are the same in every slot. A job counts up on its CPU
what has begun; the second number is written by the device when it gets there. All pairs lie in one
cache line, so that a look at the gate is a look at 64 bytes.

Whose a slot is says the job's key in the roster. Whether its owner lives is what the roster says of
that key: it knows by a lock that the kernel lets go of, also across containers, and where numbers
of processes are used anew. A file that nobody uses any more is found by such a lock, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import struct
import weakref

from remora.core.errors import RosterUnusable
from remora.share.system import leftovers
from remora.share.system.roster import Roster

SLOTS = 8
SIZE = 4096
"""A page: a device is given memory by the page."""
VERSION = 1
_HEADER = struct.Struct("=8sII")
_PAIRS = struct.Struct(f"={2 * SLOTS}I")
_PAIRS_AT, _OWNERS_AT = 64, 128
_OWNER = struct.Struct("=16sQQ")
_OWNER_BYTES = 64
_KEY = re.compile(rb"[0-9a-f]{16}")
_NOBODY = bytes(16)
_MOST = 1 << 32


class Slot:
    """A high-priority job's own slot. Only that job writes to it while it lives."""

    def __init__(self, memory: Memory, place: int) -> None:
        self._memory, self.place = memory, place
        self.pairs = memory.pairs
        self.done_at = 2 * place + 1
        """Where in :attr:`pairs` the number is that the device writes."""

    @property
    def begun(self) -> int:
        """The number of the last request that has begun."""
        return self.pairs[2 * self.place]

    @property
    def is_shut(self) -> bool:
        """Whether the device is not done with what has begun."""
        return self.pairs[2 * self.place] != self.pairs[self.done_at]

    def begin(self) -> None:
        """One more request begins: the gate is shut."""
        self.pairs[2 * self.place] = (self.begun + 1) % _MOST

    def open(self) -> None:
        """Nothing is under way, as far as this job goes."""
        self.pairs[self.done_at] = self.begun

    def note(self, busy_ns: int) -> None:
        """A stretch of requests without a pause has kept the device for so long."""
        self._memory.note(self.place, busy_ns)


class Memory:
    """The file of one device, mapped.

    Args:
        roster: beside which it lies.
        device: ``cpu``, or what tells an accelerator from every other.

    Raises:
        RosterUnusable: the folder cannot be written, or the file is not such a file.
    """

    def __init__(self, roster: Roster, device: str) -> None:
        self._roster = roster
        self.path = roster.folder / f"{leftovers.GATE_PREFIX}{device}"
        with roster.locked():
            self._held = self._opened()
            try:
                self._map = self._mapped()
            except BaseException:
                os.close(self._held)
                raise
        self._whole = memoryview(self._map)
        end = _PAIRS_AT + _PAIRS.size
        self.pairs = self._whole[_PAIRS_AT:end].cast("I")
        """``begun`` and ``done`` of each slot."""
        _open.add(self)

    # ---------------------------------------------------------------- the file

    def _opened(self) -> int:
        """A descriptor that holds the file: while anybody has one, it is not removed."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise RosterUnusable(f"file {self.path}: {error.strerror}; remove it") from None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def _mapped(self) -> mmap.mmap:
        # A descriptor of its own: a map keeps it, and children that outlive their parent keep that.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size == 0:
                header = _HEADER.pack(leftovers.GATE_MAGIC, VERSION, SLOTS)
                os.pwrite(descriptor, header.ljust(SIZE, b"\0"), 0)
            self._check(descriptor)
            return mmap.mmap(descriptor, SIZE)
        except OSError as error:
            raise RosterUnusable(f"file {self.path}: {error.strerror}; remove it") from None
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int) -> None:
        found = os.pread(descriptor, _HEADER.size, 0)
        wanted = _HEADER.pack(leftovers.GATE_MAGIC, VERSION, SLOTS)
        if os.fstat(descriptor).st_size != SIZE or found != wanted:
            raise RosterUnusable(
                f"file {self.path} is damaged, or of another version of Remora; end the jobs that "
                "use it and remove it"
            )

    def close(self) -> None:
        """Use it no more; who is last removes it. Calling it twice does no harm."""
        if self._held < 0:
            return
        with contextlib.suppress(RosterUnusable), self._roster.locked():
            self.let_go()
            leftovers.gates_removed(self._roster.folder)
        self.let_go()

    def let_go(self) -> None:
        """Hold the file no more, and nothing else: what a forked child does. It stays mapped."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)
        _open.discard(self)

    # ---------------------------------------------------------------- slots

    def take(self, key: str) -> Slot | None:
        """A slot for the job of ``key``; None where all are taken by jobs that live.

        Raises:
            RosterUnusable: the lock is not to be had.
        """
        with self._roster.locked():
            self._free_dead()
            for place, owner in enumerate(self.owners()):
                if owner is None:
                    slot = Slot(self, place)
                    slot.open()
                    self._set_owner(place, key.encode())
                    return slot
        return None

    def give_back(self, slot: Slot) -> None:
        """Nobody waits for this slot any more, and another job may have it."""
        slot.open()
        self._set_owner(slot.place, _NOBODY)

    def owners(self) -> list[str | None]:
        """The key of each slot's job."""
        return [self._owner(place) for place in range(SLOTS)]

    def free_dead(self) -> None:
        """Free the slots of jobs that are dead: what they had begun is over.

        Raises:
            RosterUnusable: the lock is not to be had now.
        """
        with self._roster.locked(patience_s=0.0):
            self._free_dead()

    def _free_dead(self) -> None:
        for place in range(SLOTS):
            owner = self._owner(place)
            is_taken = self._key(place) != _NOBODY
            if is_taken and (owner is None or self._roster.find(owner) is None):
                self.give_back(Slot(self, place))

    def note(self, place: int, busy_ns: int) -> None:
        """See :meth:`Slot.note`."""
        stretches, total_ns = self.noted(place)
        _OWNER.pack_into(self._map, _at(place), self._key(place), stretches + 1, total_ns + busy_ns)

    def noted(self, place: int) -> tuple[int, int]:
        """How many stretches the slot's job has timed, and how long they took together."""
        _, stretches, total_ns = _OWNER.unpack_from(self._map, _at(place))
        return stretches, total_ns

    def _owner(self, place: int) -> str | None:
        key = self._key(place)
        return key.decode() if _KEY.fullmatch(key) else None

    def _key(self, place: int) -> bytes:
        return bytes(self._whole[_at(place) : _at(place) + len(_NOBODY)])

    def _set_owner(self, place: int, key: bytes) -> None:
        _OWNER.pack_into(self._map, _at(place), key, 0, 0)


def _at(place: int) -> int:
    return _OWNERS_AT + place * _OWNER_BYTES


_open: weakref.WeakSet[Memory] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for memory in list(_open):
        memory.let_go()  # else a child that outlives its parent would keep the file


os.register_at_fork(after_in_child=_let_go_in_child)
