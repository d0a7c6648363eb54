"""The contract of a storage, held against every one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import BLOCK, Storage, StorageFile
from remora.checkpoint.storage.faulty import FaultyStorage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.storage.throttled import ThrottledStorage
from remora.core.errors import FolderInUse

STORAGES: dict[str, Callable[[Path], Storage]] = {
    "local": LocalStorage,
    "memory": lambda _: MemoryStorage(),
    "throttled": lambda path: ThrottledStorage(LocalStorage(path), 1e12),
    "faulty": lambda _: FaultyStorage(MemoryStorage(), lambda call: 0),
}


class Case(NamedTuple):
    storage: Storage
    direct: bool

    def open(self, name: str, *, create: bool = False) -> StorageFile:
        return self.storage.open(name, create=create, direct=self.direct)


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return STORAGES[request.param](tmp_path / "folder")


@pytest.fixture(params=[True, False], ids=["direct", "buffered"])
def case(request: pytest.FixtureRequest, storage: Storage) -> Case:
    return Case(storage, request.param)


@pytest.fixture
def file(case: Case) -> Iterator[StorageFile]:
    with case.open("file", create=True) as opened:
        yield opened


def block(byte: int, blocks: int = 1) -> memoryview:
    memory = aligned(blocks * BLOCK)
    memory[:] = bytes([byte]) * len(memory)
    return memory


def content(file: StorageFile, offset: int = 0, count: int = 16 * BLOCK) -> bytes:
    room = aligned(count)
    return bytes(room[: file.pread(room, offset)])


# ---------------------------------------------------------------- files


def test_what_is_not_there_cannot_be_opened(case: Case) -> None:
    with pytest.raises(FileNotFoundError):
        case.open("file")
    assert case.storage.names() == []


def test_a_new_file_is_empty(file: StorageFile) -> None:
    assert file.size() == 0
    assert content(file) == b""


def test_what_is_written_is_read_and_nothing_else_changes(file: StorageFile) -> None:
    file.pwrite(block(1, 3), 0)
    file.pwrite(block(2), BLOCK)
    assert content(file) == bytes(block(1)) + bytes(block(2)) + bytes(block(1))
    assert content(file, BLOCK, BLOCK) == bytes(block(2))


def test_reading_stops_where_the_file_ends(file: StorageFile) -> None:
    file.pwrite(block(1, 2), 0)
    assert len(content(file, BLOCK)) == BLOCK
    assert content(file, 2 * BLOCK) == b""
    assert content(file, 9 * BLOCK) == b""


def test_a_hole_is_zeros(file: StorageFile) -> None:
    file.pwrite(block(1), 2 * BLOCK)
    assert file.size() == 3 * BLOCK
    assert content(file) == bytes(2 * BLOCK) + bytes(block(1))


def test_a_file_is_the_same_however_often_it_is_opened(case: Case, file: StorageFile) -> None:
    file.pwrite(block(1), 0)
    file.fdatasync()
    with case.open("file") as again, case.open("file", create=True) as created:
        assert content(again) == content(created) == bytes(block(1))


def test_allocating_grows_with_zeros_and_never_shrinks(file: StorageFile) -> None:
    file.pwrite(block(1), 0)
    file.allocate(3 * BLOCK)
    assert content(file) == bytes(block(1)) + bytes(2 * BLOCK)
    file.allocate(BLOCK)
    assert file.size() == 3 * BLOCK


def test_threads_write_disjoint_ranges_at_once(file: StorageFile) -> None:
    def write(byte: int) -> None:
        for index in range(byte, 64, 4):
            file.pwrite(block(index), index * BLOCK)

    threads = [threading.Thread(target=write, args=(byte,)) for byte in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.fdatasync()
    assert content(file, 0, 64 * BLOCK) == b"".join(bytes(block(index)) for index in range(64))


def test_closing_twice_does_no_harm(case: Case) -> None:
    file = case.open("file", create=True)
    file.close()
    file.close()
    assert case.storage.names() == ["file"]


def test_only_a_file_that_was_asked_to_be_is_direct(storage: Storage) -> None:
    with storage.open("file", create=True) as file:
        assert not file.direct
        odd = memoryview(b"no alignment")
        file.pwrite(odd, 3)
        assert content(file) == bytes(3) + bytes(odd)


# ---------------------------------------------------------------- names


def put(case: Case, name: str, byte: int) -> None:
    with case.open(name, create=True) as file:
        file.pwrite(block(byte), 0)
        file.fdatasync()


def read(case: Case, name: str) -> bytes:
    with case.open(name) as file:
        return content(file)


def test_names_are_sorted_and_go_one_folder_deep(case: Case) -> None:
    for number, name in enumerate(["b", "archive/x", "a"]):
        put(case, name, number)
    case.storage.sync_names()
    assert case.storage.names() == ["a", "archive/x", "b"]
    assert read(case, "archive/x") == bytes(block(1))


def test_renaming_replaces(case: Case) -> None:
    put(case, "old", 1)
    put(case, "new", 2)
    case.storage.rename("old", "new")
    case.storage.sync_names()
    assert case.storage.names() == ["new"]
    assert read(case, "new") == bytes(block(1))


def test_renaming_into_a_folder_makes_it(case: Case) -> None:
    put(case, "old", 1)
    case.storage.rename("old", "archive/new")
    assert case.storage.names() == ["archive/new"]


def test_what_is_not_there_cannot_be_renamed(case: Case) -> None:
    put(case, "new", 1)
    with pytest.raises(FileNotFoundError):
        case.storage.rename("old", "new")
    assert read(case, "new") == bytes(block(1))


def test_an_open_file_keeps_its_bytes_under_its_new_name(case: Case, file: StorageFile) -> None:
    case.storage.rename("file", "moved")
    file.pwrite(block(7), 0)
    assert read(case, "moved") == bytes(block(7))
    put(case, "file", 8)
    assert read(case, "moved") == bytes(block(7))


def test_removing_is_harmless_where_there_is_nothing(case: Case) -> None:
    put(case, "file", 1)
    case.storage.remove("file")
    case.storage.remove("file")
    assert case.storage.names() == []


def test_a_file_made_in_the_place_of_a_removed_one_is_another(case: Case) -> None:
    put(case, "file", 1)
    case.storage.remove("file")
    with case.open("file", create=True) as file:
        assert file.size() == 0


def test_it_says_how_much_room_there_is(storage: Storage) -> None:
    assert storage.free_bytes() > 0


# ---------------------------------------------------------------- the lock


def test_there_is_one_writer_at_a_time(storage: Storage) -> None:
    lock = storage.lock()
    with pytest.raises(FolderInUse):
        storage.lock()
    lock.release()
    again = storage.lock()
    lock.release()  # twice does no harm: it is not the holder any more
    with pytest.raises(FolderInUse):
        storage.lock()
    again.release()
