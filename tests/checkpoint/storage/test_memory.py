"""What power loss may leave, by the model that the storage in memory keeps."""

from __future__ import annotations

from itertools import product

from remora.checkpoint.storage.contract import SECTOR
from remora.checkpoint.storage.memory import MemoryStorage


def sectors(*values: int) -> memoryview:
    return memoryview(b"".join(bytes([value]) * SECTOR for value in values))


def content(storage: MemoryStorage, name: str) -> list[int]:
    """The first byte of every sector."""
    with storage.open(name) as file:
        room = memoryview(bytearray(16 * SECTOR))
        return list(room[: file.pread(room, 0)][::SECTOR])


def synced(name: str, *values: int) -> MemoryStorage:
    storage = MemoryStorage()
    with storage.open(name, create=True) as file:
        file.pwrite(sectors(*values), 0)
        file.fdatasync()
    storage.sync_names()
    return storage


def left(storage: MemoryStorage, name: str) -> set[tuple[int, ...]]:
    """The file in every state that power loss now may leave."""
    loss = storage.power_loss(len(storage.log))
    return {
        tuple(content(loss.found(lambda index, which=which: which[index]), name))  # type: ignore[misc]
        for which in product([False, True], repeat=len(loss.sectors))
    }


def test_what_is_synced_stays() -> None:
    storage = synced("file", 1, 2)
    assert left(storage, "file") == {(1, 2)}


def test_of_what_is_not_synced_any_sector_may_be_there() -> None:
    storage = synced("file", 1, 2)
    storage.open("file").pwrite(sectors(3, 4), 0)
    assert left(storage, "file") == {(1, 2), (3, 2), (1, 4), (3, 4)}


def test_of_two_writes_over_each_other_either_may_be_last() -> None:
    storage = synced("file", 1)
    file = storage.open("file")
    file.pwrite(sectors(2), 0)
    file.pwrite(sectors(3), 0)
    assert left(storage, "file") == {(1,), (2,), (3,)}


def test_an_unaligned_write_is_torn_where_sectors_end() -> None:
    storage = synced("file", 1, 1)
    storage.open("file").pwrite(memoryview(b"\7" * SECTOR), SECTOR // 2)
    loss = storage.power_loss(len(storage.log))
    assert [(each.offset, len(each.data)) for each in loss.sectors] == [
        (SECTOR // 2, SECTOR // 2),
        (SECTOR, SECTOR // 2),
    ]


def test_a_file_may_have_its_new_length_or_not() -> None:
    storage = synced("file", 1)
    storage.open("file").allocate(3 * SECTOR)
    assert left(storage, "file") == {(1,), (1, 0, 0)}
    storage.open("file").fdatasync()
    assert left(storage, "file") == {(1, 0, 0)}


def test_syncing_one_file_syncs_no_other() -> None:
    storage = synced("a", 1)
    storage.open("b", create=True)
    storage.sync_names()
    storage.open("a").pwrite(sectors(2), 0)
    storage.open("b").pwrite(sectors(2), 0)
    storage.open("b").fdatasync()
    assert left(storage, "b") == {(2,)}
    assert left(storage, "a") == {(1,), (2,)}


def test_name_changes_are_there_in_their_order() -> None:
    storage = synced("a", 1)
    storage.rename("a", "b")
    storage.open("c", create=True)
    storage.remove("b")
    loss = storage.power_loss(len(storage.log))
    found = [loss.found(lambda _: True, names).names() for names in range(len(loss.names) + 1)]
    assert found == [["a"], ["b"], ["b", "c"], ["c"]]
    storage.sync_names()
    assert storage.power_loss(len(storage.log)).names == []


def test_power_may_be_lost_at_any_time_before() -> None:
    storage = synced("file", 1)
    before = len(storage.log)
    file = storage.open("file")
    file.pwrite(sectors(2), 0)
    file.fdatasync()
    assert content(storage.power_loss(before).found(lambda _: True), "file") == [1]
    assert storage.power_loss(0).found(lambda _: True).names() == []


def test_what_is_found_is_durable_and_new_files_are_others() -> None:
    storage = synced("file", 1)
    storage.open("empty", create=True)
    storage.open("file").pwrite(sectors(2), 0)
    found = storage.power_loss(len(storage.log)).found(lambda _: True, names=1)
    assert found.log == []
    assert left(found, "file") == {(2,)}
    found.open("another", create=True).pwrite(sectors(9), 0)
    assert content(found, "empty") == []
    assert content(storage, "file") == [2], "and what is found is a copy"


def test_a_killed_process_leaves_what_it_wrote_visible_and_not_durable() -> None:
    storage = synced("file", 1)
    storage.open("file").pwrite(sectors(2), 0)
    found = storage.after_kill(len(storage.log))
    assert content(found, "file") == [2]
    assert left(found, "file") == {(1,), (2,)}
    found.open("file").fdatasync()
    assert left(found, "file") == {(2,)}
    assert left(storage, "file") == {(1,), (2,)}, "and what is found is a copy"
