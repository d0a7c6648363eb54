"""A folder open for writing: its slots' files, what it keeps, and who may write."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.checkpoint import saving
from tests.checkpoint.saving import CHUNK, save

from remora.checkpoint import commit, reading
from remora.checkpoint.commit import CommitLog, slot_name
from remora.checkpoint.folder import Folder
from remora.checkpoint.layout.records import MAX_ENTRIES, RECORD_BYTES, RING_RECORDS
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import BadValue, CheckpointUnusable, FolderInUse

SIZE = 6 * CHUNK


def opened(storage: Storage, *, keep: int = 2, keep_every: int | None = None) -> Folder:
    folder = Folder(storage, keep=keep, in_flight=2, keep_every=keep_every, now_ns=lambda: 5)
    folder.prepare(SIZE)
    return folder


def steps(storage: Storage) -> list[int]:
    """Of what is there and whole, newest first."""
    whole = []
    for found in reading.checkpoints(storage):
        try:
            with reading.Reader(storage, found) as reader:
                reader.verify()
        except CheckpointUnusable:
            continue
        whole.append(found.entry.step)
    return whole


def live(folder: Folder) -> list[int]:
    return [entry.step for entry in folder.live]


# ---------------------------------------------------------------- what is kept


def test_the_newest_are_kept_and_read_back(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    folder = opened(storage)
    for step in range(1, 6):
        assert save(folder, step, size=SIZE)
    assert live(folder) == [5, 4]
    with reading.Reader(storage, reading.checkpoints(storage)[0]) as reader:
        assert saving.differs(reader, 5) is None
    folder.close()


def test_a_committed_slot_opens_with_the_stock_library(tmp_path: Path) -> None:
    folder = opened(LocalStorage(tmp_path))
    save(folder, 7, size=SIZE)
    loaded = safetensors.torch.load_file(tmp_path / slot_name(folder.live[0].slot))
    folder.close()
    for name, tensor in saving.state(7).items():
        assert torch.equal(loaded[name], tensor)


def test_an_older_one_that_finishes_late_is_kept_as_older() -> None:
    folder = opened(MemoryStorage())
    older, newer = (saving.begin(folder, step, size=SIZE) for step in (1, 2))
    for each in (newer, older):
        each.write_all()
        assert each.commit(folder)
    assert live(folder) == [2, 1]


def test_one_that_is_older_than_all_that_are_kept_is_not_committed() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    late = saving.begin(folder, 1, size=SIZE)
    save(folder, 2, size=SIZE)
    save(folder, 3, size=SIZE)
    late.write_all()
    records = CommitLog(storage).newest.sequence
    assert late.commit(folder) is False
    assert live(folder) == [3, 2]
    assert CommitLog(storage).newest.sequence == records
    assert folder.begin() is not None
    assert folder.begin() is not None, "its slot is free again"


def test_no_more_are_in_flight_than_may_be() -> None:
    folder = opened(MemoryStorage())
    places = [folder.begin(), folder.begin()]
    assert None not in places
    assert folder.begin() is None
    assert places[0] is not None
    folder.give_back(places[0])
    assert folder.begin() is not None


def test_sequences_grow_however_often_the_folder_is_opened_and_whatever_is_dropped() -> None:
    storage, sequences = MemoryStorage(), []
    for step in range(1, 5):
        folder = opened(storage)
        save(folder, step, size=SIZE)
        sequences.append(folder.live[0].sequence)
        folder.drop(folder.live[0])
        folder.close()
    assert sequences == [1, 2, 3, 4]


def test_what_is_dropped_is_listed_no_longer_and_its_slot_is_used_again() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    save(folder, 1, size=SIZE)
    save(folder, 2, size=SIZE)
    dropped = folder.live[0]
    folder.drop(dropped)
    assert live(folder) == [1]
    assert [each.step for each in CommitLog(storage).newest.entries] == [1]
    places = [folder.begin(), folder.begin()]
    assert dropped.slot in {place.slot for place in places if place}


def test_the_time_is_for_people_and_may_go_backwards() -> None:
    times = iter([9, 5, 7, 1])
    storage = MemoryStorage()
    folder = Folder(storage, keep=2, in_flight=1, now_ns=lambda: next(times))
    folder.prepare(SIZE)
    for step in (1, 2, 3, 4):
        save(folder, step, size=SIZE)
    assert [(each.step, each.time_ns) for each in folder.live] == [(4, 1), (3, 7)]
    assert steps(storage)[:2] == [4, 3]


# ---------------------------------------------------------------- kept for good


def test_every_so_many_steps_one_stays_for_good() -> None:
    storage = MemoryStorage()
    folder = opened(storage, keep_every=3)
    for step in range(1, 12):
        save(folder, step, size=SIZE)
    assert [entry.step for entry in commit.archived(storage)] == [9, 6, 3]
    assert steps(storage) == [11, 10, 9, 6, 3]
    kinds = {each.entry.step: each.kind for each in reading.checkpoints(storage)}
    assert (kinds[11], kinds[10], kinds[9]) == ("live", "live", "archived")


def test_a_step_saved_and_archived_again_replaces_the_first() -> None:
    storage = MemoryStorage()
    folder = opened(storage, keep_every=2)
    for step in (1, 2, 3, 4, 2, 5, 6, 7):
        save(folder, step, size=SIZE)
    archived = {entry.step: entry.sequence for entry in commit.archived(storage)}
    assert archived == {2: 5, 4: 4}
    assert 2 in steps(storage)


def test_moving_to_the_archive_twice_moves_once() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    save(folder, 1, size=SIZE)
    (entry,) = folder.live
    commit.archive(storage, entry)
    commit.archive(storage, entry)
    assert steps(storage) == [1]
    assert slot_name(entry.slot) not in storage.names()


# ---------------------------------------------------------------- slot files


def test_preparing_writes_every_slot_once_and_in_full() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    assert [name for name in storage.names() if name.startswith("slot")] == [
        slot_name(slot) for slot in range(4)
    ]
    written = sum(len(change.data) for change in storage.log if change.kind == "write")
    assert written == 4 * SIZE + RING_RECORDS * RECORD_BYTES
    folder.prepare(SIZE)
    folder.close()
    opened(storage)
    again = sum(len(change.data) for change in storage.log if change.kind == "write")
    assert again == written, "what is there is not written again"


def test_files_of_slots_there_no_longer_are_go() -> None:
    storage = MemoryStorage()
    folder = opened(storage, keep=5)
    for step in range(1, 8):
        save(folder, step, size=SIZE)
    folder.close()
    kept = {slot_name(entry.slot) for entry in folder.live}
    again = opened(storage, keep=2)
    assert live(again) == [7, 6, 5, 4, 3], "nothing is given up before there is something newer"
    there = {name for name in storage.names() if name.startswith("slot-")}
    assert kept <= there <= kept | {slot_name(slot) for slot in range(4)}
    save(again, 8, size=SIZE)
    assert live(again) == [8, 7]


def test_preparing_while_saves_are_in_flight_leaves_their_files_alone() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    first = saving.begin(folder, 1, size=SIZE)
    first.write(0)
    folder.prepare(2 * SIZE)
    first.write_all()
    assert first.commit(folder)
    assert save(folder, 2, scale=2, size=2 * SIZE)
    assert steps(storage) == [2, 1]


def test_space_is_counted_before_anything_is_written() -> None:
    storage = MemoryStorage(free_bytes=3 * SIZE)
    folder = Folder(storage, keep=2, in_flight=2)
    with pytest.raises(CheckpointUnusable, match=r"4 slots of 24\.0 KiB need 96\.0 KiB more"):
        folder.prepare(SIZE)
    assert storage.names() == ["commits"]


def test_space_that_old_slots_take_is_counted_as_free() -> None:
    storage = MemoryStorage(free_bytes=4 * SIZE)
    folder = opened(storage)
    folder.prepare(2 * SIZE)
    with pytest.raises(CheckpointUnusable, match="are free"):
        folder.prepare(4 * SIZE)


# ---------------------------------------------------------------- who may write


def test_a_folder_has_one_writer() -> None:
    storage = MemoryStorage()
    folder = opened(storage)
    with pytest.raises(FolderInUse):
        opened(storage)
    folder.close()
    folder.close()
    opened(storage).close()


def test_a_folder_that_cannot_be_opened_is_let_go_of(tmp_path: Path) -> None:
    (tmp_path / "commits").mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match="directory"):
            opened(LocalStorage(tmp_path))


@pytest.mark.parametrize(
    ("keep", "in_flight", "keep_every", "says"),
    [
        (1, 2, None, "keep=1: choose 2 or more"),
        (2, 0, None, "in_flight=0: choose 1 or more"),
        (2, 1, 0, "keep_every=0: choose 1 or more"),
        (MAX_ENTRIES, 1, None, f"together at most {MAX_ENTRIES}"),
    ],
)
def test_nonsense_is_refused(keep: int, in_flight: int, keep_every: int | None, says: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(BadValue, match=says):
        Folder(storage, keep=keep, in_flight=in_flight, keep_every=keep_every)
    assert storage.names() == []
    storage.lock().release()


def test_a_log_is_opened_before_it_is_written_to() -> None:
    with pytest.raises(ValueError, match=r"open\(\)"):
        CommitLog(MemoryStorage()).append(())
