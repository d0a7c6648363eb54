"""Local folders: locks that die with their owner, direct I/O where it is to be had."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoint.permissions import read_only

from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import BLOCK
from remora.checkpoint.storage.local import LocalStorage
from remora.core.errors import FolderInUse

HOLD = """
import os, sys, time
from pathlib import Path
from remora.checkpoint.storage.local import LocalStorage
lock = LocalStorage(Path(sys.argv[1])).lock()
child = os.fork() if len(sys.argv) > 2 else -1  # the child has the descriptor, and not the lock
if child != 0:
    print(child, flush=True)
time.sleep(60)
"""


def hold(folder: Path, *fork: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the folder's lock, and the child it forked."""
    command = [sys.executable, "-c", HOLD, str(folder), *fork]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def test_another_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    owner, _ = hold(tmp_path)
    with owner:
        with pytest.raises(FolderInUse, match=f"process {owner.pid};"):
            LocalStorage(tmp_path).lock()
        owner.kill()
    LocalStorage(tmp_path).lock().release()


def test_the_lock_dies_with_its_owner_although_a_child_has_its_descriptor(tmp_path: Path) -> None:
    owner, child = hold(tmp_path, "fork")
    try:
        with pytest.raises(FolderInUse):
            LocalStorage(tmp_path).lock()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        LocalStorage(tmp_path).lock().release()
    finally:
        os.kill(child, signal.SIGKILL)
        assert owner.stdout is not None
        owner.stdout.close()


FORKED = """
import os, sys
from pathlib import Path
from remora.checkpoint.storage.local import LocalStorage
from remora.core.errors import FolderInUse
storage = LocalStorage(Path(sys.argv[1]))
lock = storage.lock()
ready, go = os.pipe(), os.pipe()
if os.fork() == 0:
    try:
        storage.lock()
    except FolderInUse as refused:
        os.write(ready[1], str(refused).encode())
    os.read(go[0], 1)
    storage.lock()
    os.write(ready[1], b"has it")
    os._exit(0)
print(f"process {os.getpid()};" in os.read(ready[0], 999).decode())
lock.release()
os.write(go[1], b"!")
print(os.read(ready[0], 99).decode())
"""


def test_a_forked_child_is_refused_until_its_parent_lets_go(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split("\n")[:2] == ["True", "has it"], run.stderr


def test_two_names_of_one_folder_are_one_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    lock = LocalStorage(tmp_path / "folder").lock()
    with pytest.raises(FolderInUse):
        LocalStorage(tmp_path / "link").lock()
    lock.release()


def test_a_full_disk_does_not_keep_the_lock_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = LocalStorage(tmp_path).lock()
    monkeypatch.undo()
    with pytest.raises(FolderInUse):
        LocalStorage(tmp_path).lock()
    lock.release()


def test_space_that_could_not_be_reserved_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ext4 does it: reserves what there is, lengthens the file so far, and then says no."""

    def partly(descriptor: int, offset: int, length: int) -> None:
        os.ftruncate(descriptor, length // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    with LocalStorage(tmp_path).open("file", create=True) as file:
        file.allocate(BLOCK)
        monkeypatch.setattr(os, "posix_fallocate", partly)
        with pytest.raises(OSError, match="No space"):
            file.allocate(64 * BLOCK)
        assert file.size() == BLOCK


def test_a_file_system_that_cannot_reserve_space_still_sets_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    with LocalStorage(tmp_path).open("file", create=True) as file:
        file.allocate(3 * BLOCK)
        assert file.size() == 3 * BLOCK


@pytest.fixture
def no_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses O_DIRECT, as older tmpfs and most network ones do."""
    opened = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.usefixtures("no_direct")
def test_where_direct_io_is_refused_the_file_is_buffered(tmp_path: Path) -> None:
    with LocalStorage(tmp_path).open("file", create=True, direct=True) as file:
        assert not file.direct
        file.pwrite(memoryview(b"odd"), 1)
        assert file.size() == 4


def test_a_file_truncated_at_an_odd_place_is_read_up_to_there(tmp_path: Path) -> None:
    with LocalStorage(tmp_path).open("file", create=True, direct=True) as file:
        file.pwrite(aligned(2 * BLOCK), 0)
        os.truncate(tmp_path / "file", 6000)
        assert file.pread(aligned(2 * BLOCK), 0) == 6000
        assert file.pread(aligned(BLOCK), BLOCK) == 6000 - BLOCK


def test_what_may_not_be_written_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"there")
    storage = LocalStorage(tmp_path)
    with read_only(tmp_path):
        for direct in (True, False):
            with storage.open("file", direct=direct) as file:
                room = aligned(BLOCK)
                assert bytes(room[: file.pread(room, 0)]) == b"there"
        with pytest.raises(PermissionError):
            storage.open("new", create=True)
        with pytest.raises(PermissionError):
            storage.lock()


def test_a_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    LocalStorage(tmp_path / "a", create=False)
    assert not (tmp_path / "a").exists()
    LocalStorage(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
