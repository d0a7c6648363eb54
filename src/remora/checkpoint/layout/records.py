"""Commit records: 4 KiB each, and each the whole truth about which checkpoints are live.

A record is written with one ``pwrite`` and made durable with one ``fdatasync``. It may be torn at
any sector; its checksum then fails, and the record before it holds. Little-endian throughout::

    0   magic     8 bytes   b"RMRACMT1"
    8   sequence  u64       grows by one with every record
    16  count     u32       of the entries that follow, at most MAX_ENTRIES
    20  reserved  u32
    24  entries   count × 56 bytes, by falling sequence of their checkpoints
    …   zeros
    4088 checksum u64       xxh3-64 of everything before it
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

RECORD_BYTES = 4096
RING_RECORDS = 64
"""Records in the ring: so many commits leave their trace before the oldest is overwritten."""
_MAGIC = b"RMRACMT1"
_HEAD = struct.Struct("<8sQII")
_ENTRY = struct.Struct("<QQHHIQ16sQ")
_CHECKSUM = struct.Struct("<Q")
MAX_ENTRIES = (RECORD_BYTES - _HEAD.size - _CHECKSUM.size) // _ENTRY.size
ROOT_BYTES = 16
_SEQUENCES = 2**63
"""More than can be counted: what says so was written by no one."""


@dataclass(frozen=True, order=True)
class Entry:
    """One live checkpoint. Ordered by age: a higher sequence was captured later."""

    sequence: int
    """Grows by one with every checkpoint begun; never taken from a clock."""
    step: int
    slot: int
    parts: int
    """In how many files it lies: one a rank."""
    nbytes: int
    """Of state, over all parts."""
    root: bytes
    """xxh3-128 over the heads of its parts, which hold the hashes of their chunks."""
    time_ns: int
    """Unix time of the commit, for people to read; nothing depends on it."""


@dataclass(frozen=True)
class Record:
    sequence: int
    entries: tuple[Entry, ...]


def encode(record: Record) -> bytes:
    """``record`` as :data:`RECORD_BYTES` bytes.

    Raises:
        ValueError: more than :data:`MAX_ENTRIES` entries.
    """
    if len(record.entries) > MAX_ENTRIES:
        raise ValueError(f"{len(record.entries)} entries; a record holds {MAX_ENTRIES}")
    packed = [_HEAD.pack(_MAGIC, record.sequence, len(record.entries), 0)]
    packed += [
        _ENTRY.pack(e.sequence, e.step, e.slot, e.parts, 0, e.nbytes, e.root, e.time_ns)
        for e in record.entries
    ]
    body = b"".join(packed).ljust(RECORD_BYTES - _CHECKSUM.size, b"\0")
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def decode(data: bytes) -> Record | None:
    """The record in ``data``; None where there is none whole."""
    if len(data) != RECORD_BYTES or not data.startswith(_MAGIC):
        return None
    body, (checksum,) = data[: -_CHECKSUM.size], _CHECKSUM.unpack(data[-_CHECKSUM.size :])
    if xxhash.xxh3_64_intdigest(body) != checksum:
        return None
    _, sequence, count, _ = _HEAD.unpack_from(body)
    if count > MAX_ENTRIES:
        return None
    offsets = range(_HEAD.size, _HEAD.size + count * _ENTRY.size, _ENTRY.size)
    record = Record(sequence, tuple(_entry(body, offset) for offset in offsets))
    return record if _sensible(record) else None


def _sensible(record: Record) -> bool:
    return record.sequence < _SEQUENCES and all(
        entry.parts and entry.sequence < _SEQUENCES for entry in record.entries
    )


def _entry(body: bytes, offset: int) -> Entry:
    sequence, step, slot, parts, _, size, root, time_ns = _ENTRY.unpack_from(body, offset)
    return Entry(sequence, step, slot, parts, size, root, time_ns)


def newest(records: Iterable[Record]) -> Record | None:
    """The record that holds."""
    return max(records, key=lambda record: record.sequence, default=None)


def candidates(records: Iterable[Record]) -> list[Entry]:
    """Every checkpoint that may still be whole, newest first.

    Those of the newest record are; one that only an older record lists was given up, and is whole
    if its slot has not been written to since: its hashes tell.
    """
    of_slot: dict[int, Entry] = {}
    for record in records:
        for entry in record.entries:
            known = of_slot.get(entry.slot)
            if known is None or entry.sequence > known.sequence:
                of_slot[entry.slot] = entry
    return sorted(of_slot.values(), reverse=True)
