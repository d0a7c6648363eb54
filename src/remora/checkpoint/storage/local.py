"""A storage in a folder of a local file system, past the page cache where it allows that."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path
from typing import ClassVar

from remora.checkpoint.storage.contract import Lock, Storage, StorageFile
from remora.core.errors import FolderInUse
from remora.core.files import sync_directory

_DIRECT = getattr(os, "O_DIRECT", 0)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class LocalFile(StorageFile):
    """A file descriptor."""

    def __init__(self, descriptor: int, direct: bool) -> None:
        self._descriptor = descriptor
        self.direct = direct

    def pwrite(self, data: memoryview, offset: int) -> None:
        while len(data):
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def pread(self, buffer: memoryview, offset: int) -> int:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def fdatasync(self) -> None:
        os.fdatasync(self._descriptor)

    def allocate(self, size: int) -> None:
        before = self.size()
        if size <= before:
            return
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                os.ftruncate(self._descriptor, before)  # ext4 keeps what it could reserve
                raise
            os.ftruncate(self._descriptor, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalStorage(Storage):
    """The folder ``directory``, made if it is not there and ``create`` is True."""

    def __init__(self, directory: Path, *, create: bool = True) -> None:
        self.directory = directory.resolve()
        if create:
            self.directory.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        path = self.directory / name
        if create and path.parent != self.directory:
            path.parent.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        if direct and _DIRECT:
            with contextlib.suppress(OSError):  # tmpfs and network file systems refuse it
                return LocalFile(os.open(path, flags | _DIRECT, 0o644), True)
        try:
            return LocalFile(os.open(path, flags, 0o644), False)
        except OSError as error:
            if create or error.errno not in _READ_ONLY:
                raise
            return LocalFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), False)

    def rename(self, old: str, new: str) -> None:
        target = self.directory / new
        target.parent.mkdir(exist_ok=True)
        (self.directory / old).replace(target)

    def remove(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        files = [*self.directory.glob("*"), *self.directory.glob("*/*")]
        return sorted(
            each.relative_to(self.directory).as_posix() for each in files if each.is_file()
        )

    def sync_names(self) -> None:
        folders = [each for each in self.directory.iterdir() if each.is_dir()]
        for folder in (*folders, self.directory):
            sync_directory(folder)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.directory).free

    def lock(self) -> Lock:
        return _RecordLock(self.directory / "lock")


class _RecordLock(Lock):
    """A POSIX record lock: the kernel drops it with the process, and forked children hold none.

    Such locks do not keep two holders in one process apart, so those are listed here.
    """

    _held: ClassVar[set[tuple[int, Path]]] = set()
    """By process: what a forked child finds here is its parent's."""
    _guard = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path, self._descriptor = path, -1
        with self._guard:
            if (os.getpid(), path) in self._held:
                raise _in_use(path, os.getpid())
            self._descriptor = _locked(path)
            self._held.add((os.getpid(), path))

    def release(self) -> None:
        with self._guard:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
                self._held.discard((os.getpid(), self._path))


def _locked(path: Path) -> int:
    """A descriptor that holds the lock, for as long as it is open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise _in_use(path, owner or "?") from None
    with contextlib.suppress(OSError):  # for people to read: a full disk is no reason to fail
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _in_use(path: Path, owner: object) -> FolderInUse:
    return FolderInUse(
        f"checkpoint folder {str(path.parent)!r} is in use by process {owner}; "
        "give this job a folder of its own, or end that process first"
    )
