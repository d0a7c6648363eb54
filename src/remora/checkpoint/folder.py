"""A checkpoint folder open for writing: its lock, its slots, its commit log, its slot files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from remora.checkpoint import commit
from remora.checkpoint.commit import CommitLog, slot_name
from remora.checkpoint.layout import records
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout, root_of
from remora.checkpoint.slots import Decision, Slots
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.core.errors import BadValue, CheckpointUnusable
from remora.core.units import format_bytes

_FILL_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Place:
    """Where a save goes."""

    sequence: int
    slot: int
    file: StorageFile


class Folder:
    """One writer's view of a folder. Its methods may be called from any thread.

    Args:
        keep: committed checkpoints that stay; at least 2.
        in_flight: how many may be written at once.
        keep_every: those whose step is a multiple of this stay for good; None for none.
        spare: how many checkpoints may be copied elsewhere at once; each takes one more slot.
        now_ns: Unix time in nanoseconds, for people to read.

    Raises:
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
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        _check(keep, in_flight, keep_every)
        self.storage = storage
        self._keep_every, self._now_ns = keep_every, now_ns
        self._lock = storage.lock()
        try:
            self._log = CommitLog(storage)
            known = [*records.candidates(commit.read_records(storage)), *commit.archived(storage)]
            self._log.open()
        except BaseException:
            self._lock.release()
            raise
        self._slots = Slots(keep, in_flight, self._log.newest.entries, spare=spare)
        self._next_sequence = max((entry.sequence for entry in known), default=0) + 1
        self._files: dict[int, StorageFile] = {}
        self._size = 0
        self._guard = threading.RLock()
        self.on_commit: list[Callable[[Entry], None]] = []
        """Called, each in the thread that commits, with what has just become durable."""

    @property
    def live(self) -> tuple[Entry, ...]:
        """The live checkpoints, newest first."""
        return self._slots.live

    # ------------------------------------------------------------ slot files

    def prepare(self, size: int) -> None:
        """Make every free slot's file ``size`` bytes long, written once in full.

        First writes into unwritten extents run at half speed, so they are done here, once.

        Raises:
            CheckpointUnusable: there is not that much room.
            OSError: it cannot be written.
        """
        with self._guard:
            self._size = size
            keeps = {entry.slot for entry in self.live}
            free = [slot for slot in range(self._slots.count) if slot not in keeps]
            self._remove_strays(keeps | set(free))
            self._check_room(free)
            for slot in free:
                self._files[slot] = self._made(slot)
            self.storage.sync_names()

    def _remove_strays(self, wanted: set[int]) -> None:
        """Files of slots there no longer are, left by a run that kept more."""
        names = {slot_name(slot) for slot in wanted}
        names |= {
            slot_name(entry.slot, part, entry.parts)
            for entry in self.live
            for part in range(entry.parts)
        }
        for name in self.storage.names():
            if name.startswith("slot-") and name not in names:
                self.storage.remove(name)

    def _check_room(self, slots: list[int]) -> None:
        there = {slot: self._present_size(slot) for slot in slots}
        missing = sum(self._size - (size if size == self._size else 0) for size in there.values())
        reclaimed = sum(size for size in there.values() if size != self._size)
        if missing > self.storage.free_bytes() + reclaimed:
            raise CheckpointUnusable(
                f"{self._slots.count} slots of {format_bytes(self._size)} need "
                f"{format_bytes(missing)} more, and {format_bytes(self.storage.free_bytes())} are "
                "free; keep fewer, have fewer in flight, or choose another disk"
            )

    def _present_size(self, slot: int) -> int:
        try:
            with self.storage.open(slot_name(slot)) as file:
                return file.size()
        except FileNotFoundError:
            return 0

    def _made(self, slot: int) -> StorageFile:
        """The slot's file, at its size and written in full."""
        held = self._files.pop(slot, None)
        if held is not None and held.size() == self._size:
            return held
        if held is not None:
            held.close()
        if self._present_size(slot) == self._size:
            return self.storage.open(slot_name(slot), direct=True)
        self.storage.remove(slot_name(slot))
        file = self.storage.open(slot_name(slot), create=True, direct=True)
        try:
            _fill(file, self._size)
        except BaseException:
            file.close()
            self.storage.remove(slot_name(slot))
            raise
        return file

    # ------------------------------------------------------------ a save's way

    def begin(self) -> Place | None:
        """A place for the next save; None where as many are in flight as may be.

        Raises:
            OSError: the slot's file cannot be made.
        """
        with self._guard:
            slot = self._slots.take()
            if slot is None:
                return None
            try:
                self._files[slot] = file = self._made(slot)
            except BaseException:
                self._slots.give_back(slot)
                raise
            sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
            return Place(sequence, slot, file)

    def give_back(self, place: Place) -> None:
        """The save came to nothing."""
        with self._guard:
            self._slots.give_back(place.slot)

    def commit(self, place: Place, step: int, layout: SlotLayout, hashes: list[int]) -> bool:
        """Make the save whose every chunk is written durable, and acknowledge it.

        Returns:
            False if all that are kept are newer, so that it is of no use any more.

        Raises:
            OSError: it is not acknowledged; :meth:`give_back` its place.
        """
        head = aligned(layout.body)
        head[:] = layout.head(hashes)
        place.file.pwrite(head, 0)
        place.file.fdatasync()
        return self.acknowledge(
            Entry(
                sequence=place.sequence,
                step=step,
                slot=place.slot,
                parts=1,
                nbytes=layout.state_bytes,
                root=root_of([bytes(head)]),
                time_ns=self._now_ns(),
            )
        )

    def acknowledge(self, entry: Entry) -> bool:
        """Write the record that lists ``entry``, whose every part is durable."""
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
        for entry in decision.gives_up:
            if self._keep_every and entry.step % self._keep_every == 0:
                commit.archive(self.storage, entry)
                held = self._files.pop(entry.slot, None)
                if held is not None:
                    held.close()
                with contextlib.suppress(OSError):  # the next save that wants it tries again
                    self._files[entry.slot] = self._made(entry.slot)

    def close(self) -> None:
        """Let go of the folder. Calling it twice does no harm."""
        with self._guard:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._log.close()
            self._lock.release()


def _fill(file: StorageFile, size: int) -> None:
    file.allocate(size)
    zeros = aligned(min(size, _FILL_BYTES))
    for begin in range(0, size, len(zeros)):
        file.pwrite(zeros[: size - begin], begin)
    file.fdatasync()


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
