"""Files damaged from outside: what is read is what was saved, and an older one where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.checkpoint import saving
from tests.checkpoint.permissions import read_only
from tests.checkpoint.saving import CHUNK, save

from remora.checkpoint import commit, reading
from remora.checkpoint.commit import RING, archive_name, archived_record_name, slot_name
from remora.checkpoint.folder import Folder
from remora.checkpoint.layout import records
from remora.checkpoint.layout.records import RECORD_BYTES, Entry, Record
from remora.checkpoint.reading import Found
from remora.checkpoint.storage.contract import SECTOR, Storage
from remora.checkpoint.storage.faulty import Call, FaultyStorage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import CheckpointDamaged

SIZE = 6 * CHUNK


def filled(storage: Storage, last: int = 6) -> tuple[Entry, ...]:
    """A folder with some checkpoints kept and every third archived; the live ones."""
    folder = opened(storage)
    for step in range(1, last + 1):
        save(folder, step, size=SIZE)
    folder.close()
    return folder.live


def opened(storage: Storage) -> Folder:
    folder = Folder(storage, keep=2, in_flight=1, keep_every=3, now_ns=lambda: 0)
    folder.prepare(SIZE)
    return folder


def steps(storage: Storage) -> list[int]:
    """Of what can be read, newest first; it must be what was saved."""
    whole = []
    for found in reading.checkpoints(storage):
        try:
            with reading.Reader(storage, found) as reader:
                reader.verify()
                assert saving.differs(reader, found.entry.step) is None
        except (CheckpointDamaged, OSError):
            continue
        whole.append(found.entry.step)
    return whole


def goes_on(storage: Storage) -> None:
    """A job saves into the folder as if nothing had happened."""
    folder = opened(storage)
    for step in (101, 103, 104):
        assert save(folder, step, size=SIZE)
    folder.close()
    newest = reading.checkpoints(storage)[:2]
    assert [found.entry.step for found in newest] == [104, 103]
    for found in newest:
        with reading.Reader(storage, found) as reader:
            assert saving.differs(reader, found.entry.step) is None


@pytest.fixture
def storage() -> MemoryStorage:
    made = MemoryStorage()
    filled(made)
    assert steps(made) == [6, 5, 3, 4]
    return made


def content(storage: MemoryStorage, name: str) -> bytearray:
    return storage.disk.files[storage.disk.names[name]]


def newest_slot(storage: MemoryStorage) -> str:
    return slot_name(reading.checkpoints(storage)[0].entry.slot)


# ---------------------------------------------------------------- flipped bits

LAYOUT, _ = saving.rendered(6, size=SIZE)
REGIONS = {
    "header length": (0, 8),
    "header": (8, len(LAYOUT.header)),
    "checksum table": (len(LAYOUT.header), len(LAYOUT.header) + 8 * LAYOUT.chunks),
    "rest of the head": (len(LAYOUT.header) + 8 * LAYOUT.chunks, LAYOUT.body),
    "first tensor": (LAYOUT.tensors[0].begin, LAYOUT.tensors[0].end),
    "last tensor": (LAYOUT.tensors[-1].begin, LAYOUT.tensors[-1].end),
    "document": (LAYOUT.document.begin, LAYOUT.document.end),
    "rest of the last chunk": (LAYOUT.document.end, LAYOUT.hashed_end),
}


def places(begin: int, end: int) -> list[int]:
    """The first byte, the last, and some between."""
    return sorted({begin, end - 1, *range(begin, end, max(1, (end - begin) // 13))})


@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_bit_in_the_newest_leaves_the_one_before(
    storage: MemoryStorage, region: str
) -> None:
    data = content(storage, newest_slot(storage))
    for place in places(*REGIONS[region]):
        for bit in (0, 7):
            data[place] ^= 1 << bit
            assert steps(storage) == [5, 3, 4], f"bit {bit} of byte {place}"
            data[place] ^= 1 << bit
    assert steps(storage) == [6, 5, 3, 4]


def test_a_flipped_bit_in_what_only_pads_the_file_is_harmless(storage: MemoryStorage) -> None:
    data = content(storage, newest_slot(storage))
    assert LAYOUT.hashed_end < SIZE
    for place in places(LAYOUT.hashed_end, SIZE):
        data[place] ^= 1
    assert steps(storage) == [6, 5, 3, 4]


def test_a_flipped_bit_in_the_newest_record_leaves_the_record_before(
    storage: MemoryStorage,
) -> None:
    ring = content(storage, RING)
    newest = commit.CommitLog(storage).newest.sequence
    begin = newest % records.RING_RECORDS * RECORD_BYTES
    for place in places(begin, begin + RECORD_BYTES):
        ring[place] ^= 4
        assert steps(storage)[0] == 5
        ring[place] ^= 4
    ring[begin] ^= 4
    goes_on(storage)


def test_a_flipped_bit_elsewhere_in_the_ring_is_harmless(storage: MemoryStorage) -> None:
    ring = content(storage, RING)
    newest = commit.CommitLog(storage).newest.sequence
    for place in range(0, len(ring), RECORD_BYTES // 2 + 1):
        if place // RECORD_BYTES != newest % records.RING_RECORDS:
            ring[place] ^= 4
    assert steps(storage) == [6, 5, 3], "4 was given up, and only an older record lists it"


@pytest.mark.parametrize("name", [archive_name(3), archived_record_name(3)])
def test_a_flipped_bit_in_the_archive_costs_that_checkpoint_alone(
    storage: MemoryStorage, name: str
) -> None:
    data = content(storage, name)
    for place in places(0, min(len(data), LAYOUT.hashed_end)):
        data[place] ^= 32
        assert steps(storage) == [6, 5, 4], place
        data[place] ^= 32


def test_both_kept_may_not_be_damaged(storage: MemoryStorage) -> None:
    for entry in commit.CommitLog(storage).newest.entries:
        content(storage, slot_name(entry.slot))[LAYOUT.body] ^= 1
    assert steps(storage) == [3, 4], "the archive, and what was not written over yet"


# ---------------------------------------------------------------- cut off and missing

CUTS = [0, 1, 7, 8, 9, 511, CHUNK - 1, CHUNK, LAYOUT.body, LAYOUT.body + 1, 3 * CHUNK, SIZE - 1]


@pytest.mark.parametrize("length", CUTS)
def test_a_truncated_slot_leaves_the_one_before(tmp_path: Path, length: int) -> None:
    storage = LocalStorage(tmp_path)
    live = filled(storage)
    with (tmp_path / slot_name(live[0].slot)).open("r+b") as file:
        file.truncate(length)
    assert steps(storage) == [5, 3, 4]
    goes_on(storage)


def test_a_slot_that_grew_is_not_believed(storage: MemoryStorage) -> None:
    content(storage, newest_slot(storage)).extend(bytes(CHUNK))
    assert steps(storage) == [5, 3, 4]


@pytest.mark.parametrize("length", [0, 1, RECORD_BYTES - 1, RECORD_BYTES, 3 * RECORD_BYTES + 5])
def test_a_truncated_ring_is_read_as_far_as_it_goes(storage: MemoryStorage, length: int) -> None:
    del content(storage, RING)[length:]
    assert set(steps(storage)) <= {6, 5, 4, 3}
    assert 3 in steps(storage), "what is archived has a record of its own"
    goes_on(storage)


def test_a_missing_slot_leaves_the_one_before(storage: MemoryStorage) -> None:
    storage.remove(newest_slot(storage))
    assert steps(storage) == [5, 3, 4]
    goes_on(storage)


@pytest.mark.parametrize("name", [archive_name(3), archived_record_name(3)])
def test_a_missing_file_of_the_archive_costs_that_checkpoint_alone(
    storage: MemoryStorage, name: str
) -> None:
    storage.remove(name)
    assert steps(storage) == [6, 5, 4]
    goes_on(storage)


def test_without_the_ring_there_is_the_archive(storage: MemoryStorage) -> None:
    storage.remove(RING)
    assert steps(storage) == [3]
    goes_on(storage)
    assert 3 in steps(storage)


def test_a_ring_of_zeros_is_a_ring_without_records(storage: MemoryStorage) -> None:
    ring = content(storage, RING)
    ring[:] = bytes(len(ring))
    assert steps(storage) == [3]
    goes_on(storage)


def test_files_that_are_not_ours_are_left_alone(storage: MemoryStorage) -> None:
    for name in ("notes", "archive/step-x.commit", "archive/step-000000000009.commit"):
        with storage.open(name, create=True) as file:
            file.pwrite(memoryview(b"mine"), 0)
    assert steps(storage) == [6, 5, 3, 4]
    goes_on(storage)
    assert "notes" in storage.names()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert reading.checkpoints(LocalStorage(tmp_path / "nothing", create=False)) == []


# ---------------------------------------------------------------- records that lie


def nonsense(entry: Entry, **changes: int | bytes) -> Entry:
    fields = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    return Entry(**{**fields, **changes})


LIES: dict[str, Callable[[Entry], list[Entry]]] = {
    "a slot there is not": lambda e: [nonsense(e, slot=65535)],
    "parts there are not": lambda e: [nonsense(e, parts=65535)],
    "another's slot": lambda e: [nonsense(e, slot=e.slot + 1)],
    "another root": lambda e: [nonsense(e, root=bytes(16))],
    "the same twice": lambda e: [e, e],
    "two in one slot": lambda e: [e, nonsense(e, sequence=e.sequence + 1)],
    "sizes without end": lambda e: [nonsense(e, nbytes=2**64 - 1, time_ns=2**64 - 1)],
    "a step without end": lambda e: [nonsense(e, step=2**64 - 1, sequence=e.sequence + 1)],
    "far too many": lambda e: [nonsense(e, sequence=100 + n, slot=n) for n in range(72)],
    "none at all": lambda e: [],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_lies_is_seen_through(storage: MemoryStorage, lie: str) -> None:
    """With a checksum that is right; what it says of files is held against them all the same."""
    log = commit.CommitLog(storage)
    record = Record(log.newest.sequence + 1, tuple(LIES[lie](log.newest.entries[0])))
    data = records.encode(record)
    begin = record.sequence % records.RING_RECORDS * RECORD_BYTES
    content(storage, RING)[begin : begin + RECORD_BYTES] = data
    for found in reading.checkpoints(storage):
        try:
            with reading.Reader(storage, found) as reader:
                reader.verify()
        except CheckpointDamaged:
            continue
        wrong = saving.differs(reader, 6 if found.entry.step > 6 else found.entry.step)
        assert wrong is None
    goes_on(storage)


@pytest.mark.slow
def test_every_sector_of_every_file_may_be_another_files(storage: MemoryStorage) -> None:
    """Misdirected writes: a sector of one file, or zeros, where another's should be."""
    names = [name for name in storage.names() if name != RING]
    other = bytes(content(storage, RING)[:SECTOR])
    for name in names:
        data = content(storage, name)
        for begin in range(0, len(data), SECTOR):
            before = bytes(data[begin : begin + SECTOR])
            for sector in (bytes(SECTOR), other):
                data[begin : begin + SECTOR] = sector
                assert len(steps(storage)) >= 2
            data[begin : begin + SECTOR] = before


# ---------------------------------------------------------------- what cannot be read or written


def test_what_cannot_be_read_is_passed_over(storage: MemoryStorage) -> None:
    bad = newest_slot(storage)

    def fault(call: Call) -> int:
        return 5 if (call.kind, call.name) == ("pread", bad) else 0

    damaged: list[tuple[int, type[Exception]]] = []

    def tell(found: Found, error: Exception) -> None:
        damaged.append((found.entry.step, type(error)))

    faulty = FaultyStorage(storage, fault)
    readers = reading.whole(faulty, reading.checkpoints(faulty), tell)
    assert [reader.found.entry.step for reader in readers] == [5, 3, 4]
    assert (6, OSError) in damaged


def test_a_read_only_folder_can_be_read_and_not_saved_to(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    filled(storage)
    with read_only(tmp_path):
        assert steps(storage) == [6, 5, 3, 4]
        with pytest.raises(PermissionError):
            opened(storage)
    goes_on(storage)
