"""The commit log: a ring of records, of which the newest one that is whole holds.

The protocol, whose invariants ``docs/commit-protocol.md`` states and whose crashes
``tests/checkpoint/test_power_loss.py`` goes through one by one:

1. A save takes a free slot: no durable record lists it.
2. Every chunk of the body is written; all are joined; then the head, with their hashes; then
   ``fdatasync``.
3. Checkpoints to be kept for good that the commit would give up are moved to the archive.
4. One record, with the new checkpoint in its table, is written to the next place in the ring;
   ``fdatasync``. With its return the checkpoint is acknowledged.
5. Only then are the slots of those it no longer lists free.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from remora.checkpoint.layout import records
from remora.checkpoint.layout.records import RECORD_BYTES, RING_RECORDS, Entry, Record
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage, StorageFile

RING = "commits"
ARCHIVE = "archive"


def slot_name(slot: int, part: int = 0, parts: int = 1) -> str:
    """The file of one part of the checkpoint in ``slot``."""
    return f"slot-{slot:02}{_part_suffix(part, parts)}.safetensors"


def archive_name(step: int, part: int = 0, parts: int = 1) -> str:
    """The file of one part of the checkpoint of ``step`` that is kept for good."""
    return f"{ARCHIVE}/step-{step:012}{_part_suffix(part, parts)}.safetensors"


def archived_record_name(step: int) -> str:
    """The record that goes with :func:`archive_name`."""
    return f"{ARCHIVE}/step-{step:012}.commit"


def _part_suffix(part: int, parts: int) -> str:
    return "" if parts == 1 else f".rank-{part:04}-of-{parts:04}"


class CommitLog:
    """The ring in ``storage``. One writer; any number of readers."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._ring: StorageFile | None = None
        found = records.newest(read_records(storage))
        self.newest = found or Record(0, ())
        """What holds: empty where nothing was ever committed."""
        self._in_doubt = False

    def open(self) -> None:
        """Prepare to write. What holds is written once more, so that it is surely durable:
        the last writer may have died between its record and the sync of it.

        Raises:
            OSError: the ring cannot be made or written.
        """
        self._ring = ring = self._storage.open(RING, create=True, direct=True)
        if ring.size() < RING_RECORDS * RECORD_BYTES:
            ring.allocate(RING_RECORDS * RECORD_BYTES)
            zeros = aligned(RING_RECORDS * RECORD_BYTES)
            if not self.newest.sequence:
                ring.pwrite(zeros, 0)
                ring.fdatasync()
        self._storage.sync_names()
        if self.newest.sequence:
            self.append(self.newest.entries)

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Make ``entries`` what holds; durable on return.

        Raises:
            OSError: it may or may not have become durable; :meth:`settle` before a slot is reused.
        """
        if self._ring is None:
            raise ValueError("open() the log before writing to it")
        record = Record(self.newest.sequence + 1, entries)
        place = aligned(RECORD_BYTES)
        place[:] = records.encode(record)
        self._in_doubt = True
        self._ring.pwrite(place, record.sequence % RING_RECORDS * RECORD_BYTES)
        self._ring.fdatasync()
        self._in_doubt = False
        self.newest = record

    def settle(self) -> None:
        """After an append that failed, write over its record with what holds.

        That record may be durable, and the slot it lists must then not be written to.

        Raises:
            OSError: it is still in doubt.
        """
        if self._in_doubt:
            self.append(self.newest.entries)

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None


def read_records(storage: Storage) -> list[Record]:
    """Every record of the ring that is whole; none where there is no ring."""
    try:
        ring = storage.open(RING)
    except FileNotFoundError:
        return []
    with ring:
        data = memoryview(bytearray(RING_RECORDS * RECORD_BYTES))
        read = ring.pread(data, 0)
    return list(_whole(bytes(data[:read])))


def _whole(data: bytes) -> Iterator[Record]:
    for begin in range(0, len(data), RECORD_BYTES):
        record = records.decode(data[begin : begin + RECORD_BYTES])
        if record is not None:
            yield record


def archive(storage: Storage, entry: Entry) -> None:
    """Move ``entry``'s files to where they stay; a record of their own goes with them.

    Parts that have been moved already are left where they are.

    Raises:
        OSError: some of it may have happened; it can be done again.
    """
    moves = [
        (slot_name(entry.slot, part, entry.parts), archive_name(entry.step, part, entry.parts))
        for part in range(entry.parts)
    ]
    there = set(storage.names())
    left = [(old, new) for old, new in moves if old in there]
    if left:
        with storage.open(archived_record_name(entry.step), create=True) as file:
            file.pwrite(memoryview(records.encode(Record(0, (entry,)))), 0)
            file.fdatasync()
    for old, new in left:
        storage.rename(old, new)
    storage.sync_names()


def archived(storage: Storage) -> list[Entry]:
    """The checkpoints kept for good, newest first."""
    names = [name for name in storage.names() if name.startswith(f"{ARCHIVE}/step-")]
    found = [_archived_entry(storage, name) for name in names if name.endswith(".commit")]
    return sorted((entry for entry in found if entry is not None), reverse=True)


def _archived_entry(storage: Storage, name: str) -> Entry | None:
    data = memoryview(bytearray(RECORD_BYTES))
    with storage.open(name) as file:
        read = file.pread(data, 0)
    record = records.decode(bytes(data[:read]))
    return next(itertools.chain(record.entries if record else ()), None)
