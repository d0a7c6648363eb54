"""Commit records: what is encoded is decoded, and nothing else is taken for a record."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from remora.checkpoint.layout.records import (
    MAX_ENTRIES,
    RECORD_BYTES,
    Entry,
    Record,
    candidates,
    decode,
    encode,
    newest,
)

U16, U63, U64 = st.integers(0, 2**16 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1)
ENTRIES = st.builds(
    Entry,
    sequence=U63,
    step=U64,
    slot=U16,
    parts=st.integers(1, 2**16 - 1),
    nbytes=U64,
    root=st.binary(min_size=16, max_size=16),
    time_ns=U64,
)
RECORDS = st.builds(Record, sequence=U63, entries=st.lists(ENTRIES, max_size=5).map(tuple))


COUNTS = st.integers(0, 2**32 - 1) | st.integers(0, MAX_ENTRIES + 1)


def entry(sequence: int, slot: int = 0, **changes: int) -> Entry:
    fields = {"step": sequence, "parts": 1, "nbytes": 1, "time_ns": 0, **changes}
    return Entry(sequence=sequence, slot=slot, root=bytes(16), **fields)


def sealed(body: bytes) -> bytes:
    """``body`` with the checksum that makes it whole, whatever it says."""
    body = body.ljust(RECORD_BYTES - 8, b"\0")
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    data = encode(record)
    assert len(data) == RECORD_BYTES
    assert decode(data) == record


def test_the_bytes_are_those_of_the_description() -> None:
    one = Entry(sequence=2, step=3, slot=4, parts=5, nbytes=6, root=b"0123456789abcdef", time_ns=7)
    data = encode(Record(1, (one,)))
    assert data[:8] == b"RMRACMT1"
    assert struct.unpack_from("<QII", data, 8) == (1, 1, 0)
    assert struct.unpack_from("<QQHHIQ16sQ", data, 24) == (2, 3, 4, 5, 0, 6, one.root, 7)
    assert data[24 + 56 : 4088] == bytes(4088 - 80)
    assert struct.unpack_from("<Q", data, 4088)[0] == xxhash.xxh3_64_intdigest(data[:4088])


@given(RECORDS, st.integers(0, RECORD_BYTES * 8 - 1))
def test_one_flipped_bit_is_seen(record: Record, bit: int) -> None:
    data = bytearray(encode(record))
    data[bit // 8] ^= 1 << bit % 8
    assert decode(bytes(data)) is None


@given(RECORDS, RECORDS, st.integers(1, 7))
def test_a_torn_record_is_seen(old: Record, new: Record, sectors: int) -> None:
    before, after = encode(old), encode(new)
    torn = after[: 512 * sectors] + before[512 * sectors :]
    assert decode(torn) in ({None} if torn not in (before, after) else {None, old, new})


@given(st.binary(max_size=300).map(lambda data: data * 14))
def test_garbage_is_no_record(data: bytes) -> None:
    assert decode(data) is None
    assert decode(data.ljust(RECORD_BYTES, b"\0")[:RECORD_BYTES]) is None


@given(st.binary(max_size=60).map(lambda data: data * 67), U64, COUNTS)
def test_nonsense_with_a_good_checksum_does_no_harm(rest: bytes, sequence: int, count: int) -> None:
    head = struct.pack("<8sQII", b"RMRACMT1", sequence, count, 0)
    record = decode(sealed((head + rest)[: RECORD_BYTES - 8]))
    if record is not None:
        assert len(record.entries) == count <= MAX_ENTRIES
        assert encode(record)  # what holds can be recorded again
        assert all(each.parts for each in record.entries)


@pytest.mark.parametrize(
    "nonsense",
    [
        Record(2**63, ()),
        Record(1, (entry(2**63),)),
        Record(1, (entry(1, parts=0),)),
    ],
    ids=["a sequence without end", "a checkpoint without end", "a checkpoint of no parts"],
)
def test_what_no_writer_writes_is_not_believed(nonsense: Record) -> None:
    assert decode(encode(nonsense)) is None


def test_a_record_holds_only_so_many() -> None:
    full = Record(1, tuple(entry(each, each) for each in range(MAX_ENTRIES)))
    assert decode(encode(full)) == full
    with pytest.raises(ValueError, match="a record holds"):
        encode(Record(1, (*full.entries, entry(99))))


def test_the_newest_holds() -> None:
    assert newest([]) is None
    assert newest([Record(3, ()), Record(5, ()), Record(4, ())]) == Record(5, ())


def test_of_each_slot_the_newest_may_be_whole() -> None:
    old = Record(1, (entry(1, slot=0), entry(2, slot=1)))
    new = Record(2, (entry(3, slot=0), entry(2, slot=1)))
    assert candidates([new, old]) == [entry(3, slot=0), entry(2, slot=1)]
    assert candidates([old, new]) == candidates([new, old])
