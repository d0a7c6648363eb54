"""A checkpoint folder open for writing: its lock, its slots, its commit log, its slot files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from remora.checkpoint import commit
from remora.checkpoint.commit import CommitLog
from remora.checkpoint.layout import records
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout, root_of
from remora.checkpoint.slot_files import SlotFiles
from remora.checkpoint.slots import Decision, Slots
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.core.errors import BadValue


@dataclass(frozen=True)
class Place:
    """Where a save goes."""

    sequence: int
    slot: int
    file: StorageFile


class Folder:
    """The one writer's view of a folder. Its methods may be called from any thread.

    Args:
        keep: committed checkpoints that stay; at least 2, so that one may be damaged.
        in_flight: how many may be written at once.
        keep_every: those whose step is a multiple of this stay for good; None for none.
        spare: how many may be read from their slots, to be copied elsewhere, while they are
            given up: so many more slots there are.
        parts: how many ranks write a part each; this is rank 0's view.
        now_ns: Unix time in nanoseconds, for people to read.

    Raises:
        BadValue: a number out of its range.
        FolderInUse: another job writes to it.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        keep: int,
        in_flight: int,
        keep_every: int | None = None,
        spare: int = 0,
        parts: int = 1,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        _check(keep, in_flight, keep_every)
        self.storage = storage
        self._keep_every, self._parts, self._now_ns = keep_every, parts, now_ns
        self._lock = storage.lock()
        try:
            self._log = CommitLog(storage)
            known = [*records.candidates(commit.read_records(storage)), *commit.archived(storage)]
            self._open_log()
        except BaseException:
            self._lock.release()
            raise
        self._slots = Slots(keep, in_flight, self._log.newest.entries, spare=spare)
        self._next_sequence = max((entry.sequence for entry in known), default=0) + 1
        self._files = SlotFiles(storage, 0, parts)
        self._guard = threading.RLock()
        self.on_commit: list[Callable[[Entry], None]] = []
        """Called, each in the thread that commits, with what has just become durable."""

    def _open_log(self) -> None:
        try:
            self._log.open()
        except BaseException:
            self._log.close()
            raise

    @property
    def live(self) -> tuple[Entry, ...]:
        """The live checkpoints, newest first."""
        return self._slots.live

    def agree(self, room: Callable[[], bool]) -> bool:
        """Whether to begin a save; ``room`` tells whether this process has room for one."""
        return room()

    def free_slots(self) -> list[int]:
        """The slots that no live checkpoint is in, nor one on its way."""
        busy = {entry.slot for entry in self.live} | self._slots.taken
        return [slot for slot in range(self._slots.count) if slot not in busy]

    def prepare(self, size: int) -> None:
        """Make every free slot's file ``size`` bytes long, written once in full.

        Raises:
            CheckpointUnusable: there is not that much room.
            OSError: it cannot be written.
        """
        with self._guard:
            self._log.settle()
            self._remove_strays()
            self._files.prepare(size, self.free_slots())

    def _remove_strays(self) -> None:
        """Slot files that are of no use: of slots there no longer are, or of other ranks."""
        names = {
            commit.slot_name(slot, part, self._parts)
            for slot in (*self.free_slots(), *self._slots.taken)
            for part in range(self._parts)
        }
        names |= {
            commit.slot_name(entry.slot, part, entry.parts)
            for entry in self.live
            for part in range(entry.parts)
        }
        for name in self.storage.names():
            if name.startswith("slot-") and name not in names:
                self.storage.remove(name)

    # ------------------------------------------------------------ a save's way

    def begin(self) -> Place | None:
        """A place for the next save; None where as many are in flight as may be.

        Raises:
            OSError: the slot's file cannot be made.
        """
        with self._guard:
            there = [slot for slot in range(self._slots.count) if self._files.is_there(slot)]
            slot = self._slots.take(prefer=there)
            if slot is None:
                return None
            try:
                self._log.settle()
                file = self._files.open(slot)
            except BaseException:
                self._slots.give_back(slot)
                raise
            sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
            return Place(sequence, slot, file)

    def give_back(self, place: Place) -> None:
        """The save came to nothing."""
        place.file.close()
        with self._guard:
            self._slots.give_back(place.slot)

    def commit(self, place: Place, step: int, layout: SlotLayout, hashes: list[int]) -> bool:
        """Make the save whose every chunk is written durable, and acknowledge it.

        Returns:
            False if all that are kept are newer, so that it is of no use any more.

        Raises:
            OSError: it is not acknowledged; :meth:`give_back` its place.
        """
        head = write_head(place.file, layout, hashes)
        committed = self.acknowledge(place, step, layout.state_bytes, root_of([head]))
        place.file.close()
        return committed

    def acknowledge(self, place: Place, step: int, nbytes: int, root: bytes) -> bool:
        """Write the record that lists the checkpoint in ``place``, whose every part is durable."""
        entry = Entry(place.sequence, step, place.slot, self._parts, nbytes, root, self._now_ns())
        with self._guard:
            decision = self._slots.decide(entry)
            if decision is None:
                self._slots.give_back(entry.slot)
                return False
            self._archive(decision)
            self._record(decision)
        for tell in self.on_commit:
            tell(entry)
        return True

    @contextlib.contextmanager
    def pinned(self, entry: Entry) -> Iterator[bool]:
        """Keep ``entry`` from being written over while it is read; False if it is gone already."""
        with self._guard:
            held = self._slots.pin(entry)
        try:
            yield held
        finally:
            if held:
                with self._guard:
                    self._slots.unpin(entry)

    def drop(self, entry: Entry) -> None:
        """List ``entry`` no longer: it is damaged, or was pruned.

        Raises:
            OSError: it may still be listed.
        """
        with self._guard:
            self._record(self._slots.drop(entry))

    def _record(self, decision: Decision) -> None:
        self._slots.begin(decision)
        try:
            self._log.append(decision.live)
        except BaseException:
            self._slots.aborted()
            raise
        self._slots.committed(decision)

    def _archive(self, decision: Decision) -> None:
        """A later save makes the slot's next file: while the record is not durable, one in the
        old place could be taken for the checkpoint."""
        for entry in decision.gives_up:
            if self._keep_every and entry.step % self._keep_every == 0:
                self._files.forget(entry.slot)
                commit.archive(self.storage, entry)

    def close(self) -> None:
        """Let go of the folder. Calling it twice does no harm."""
        with self._guard:
            self._log.close()
            self._lock.release()


def write_head(file: StorageFile, layout: SlotLayout, hashes: list[int]) -> bytes:
    """Write what comes before the body and make all of the file durable; the head, as bytes."""
    head = aligned(layout.body)
    head[:] = layout.head(hashes)
    file.pwrite(head, 0)
    file.fdatasync()
    return bytes(head)


def _check(keep: int, in_flight: int, keep_every: int | None) -> None:
    if keep < 2:
        raise BadValue(f"keep={keep}: choose 2 or more, so that one checkpoint may be damaged")
    if in_flight < 1:
        raise BadValue(f"in_flight={in_flight}: choose 1 or more")
    if keep_every is not None and keep_every < 1:
        raise BadValue(f"keep_every={keep_every}: choose 1 or more, or leave it out")
    if keep + in_flight > records.MAX_ENTRIES:
        most = records.MAX_ENTRIES
        raise BadValue(f"keep={keep} and in_flight={in_flight}: together at most {most}")
