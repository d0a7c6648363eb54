"""A storage in memory that keeps a log, and can say what a power loss might have left.

What a disk promises is modelled so: a file's writes before its last ``fdatasync`` are there; of
those after it any subset of sectors may be, in any order; names follow the file system's journal,
so after the last ``sync_names`` any number of the next changes may be there, in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from remora.checkpoint.storage.contract import SECTOR, Lock, Storage, StorageFile
from remora.core.errors import FolderInUse


class Change(NamedTuple):
    """One entry of the log."""

    kind: str
    """write, allocate, sync, name or sync_names."""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    old: str | None = None
    """A name taken away (``kind == "name"``)."""
    new: str | None = None
    """A name given to ``file``."""


class Sector(NamedTuple):
    """A sector's worth of an unsynced write."""

    file: int
    offset: int
    data: bytes


@dataclass
class _Disk:
    """Bytes by file, and files by name."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def write(self, file: int, offset: int, data: bytes) -> None:
        content = self.files.setdefault(file, bytearray())
        if len(content) < offset + len(data):
            content.extend(bytes(offset + len(data) - len(content)))
        content[offset : offset + len(data)] = data

    def rename(self, change: Change) -> None:
        if change.old is not None:
            self.names.pop(change.old, None)
        if change.new is not None:
            self.names[change.new] = change.file

    def apply(self, change: Change) -> None:
        if change.kind == "write":
            self.write(change.file, change.offset, change.data)
        elif change.kind == "allocate":
            self.write(change.file, change.offset, b"")
        elif change.kind == "name":
            self.rename(change)


class MemoryFile(StorageFile):
    def __init__(self, storage: MemoryStorage, number: int, direct: bool) -> None:
        self._storage, self._number, self.direct = storage, number, direct

    @property
    def _content(self) -> bytearray:
        return self._storage.disk.files.setdefault(self._number, bytearray())

    def pwrite(self, data: memoryview, offset: int) -> None:
        self._storage.do(Change("write", self._number, offset, bytes(data)))

    def pread(self, buffer: memoryview, offset: int) -> int:
        found = self._content[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def fdatasync(self) -> None:
        self._storage.do(Change("sync", self._number))

    def allocate(self, size: int) -> None:
        if size > self.size():
            self._storage.do(Change("allocate", self._number, size))

    def size(self) -> int:
        return len(self._content)

    def close(self) -> None:
        pass


class MemoryStorage(Storage):
    """A folder in memory; every copy made by :meth:`after_power_loss` starts a log of its own."""

    def __init__(self, disk: _Disk | None = None, *, free_bytes: int = 2**40) -> None:
        self.disk = disk or _Disk()
        self.log: list[Change] = []
        self._start = _copy(self.disk)
        self._free_bytes = free_bytes
        self._next = max(self.disk.files, default=-1) + 1
        self._guard = threading.RLock()
        self._locked = False

    def do(self, change: Change) -> None:
        """Apply ``change`` and log it."""
        with self._guard:
            self.disk.apply(change)
            self.log.append(change)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        with self._guard:
            if name not in self.disk.names:
                if not create:
                    raise FileNotFoundError(name)
                self.do(Change("name", self._next, new=name))
                self._next += 1
            return MemoryFile(self, self.disk.names[name], direct)

    def rename(self, old: str, new: str) -> None:
        with self._guard:
            if old not in self.disk.names:
                raise FileNotFoundError(old)
            self.do(Change("name", self.disk.names[old], old=old, new=new))

    def remove(self, name: str) -> None:
        with self._guard:
            if name in self.disk.names:
                self.do(Change("name", old=name))

    def names(self) -> list[str]:
        return sorted(self.disk.names)

    def sync_names(self) -> None:
        self.do(Change("sync_names"))

    def free_bytes(self) -> int:
        return self._free_bytes

    def lock(self) -> Lock:
        if self._locked:
            raise FolderInUse("this storage is locked already; release that lock first")
        self._locked = True
        return _MemoryLock(self)

    def unlock(self) -> None:
        self._locked = False

    # ------------------------------------------------------------ power loss

    def unsynced(self, at: int) -> list[Sector]:
        """The sectors written in the first ``at`` changes that were not durable by then."""
        last_sync = {
            change.file: index
            for index, change in enumerate(self.log[:at])
            if change.kind == "sync"
        }
        return [
            sector
            for index, change in enumerate(self.log[:at])
            if change.kind == "write" and index > last_sync.get(change.file, -1)
            for sector in _sectors(change)
        ]

    def unsynced_names(self, at: int) -> int:
        """How many name changes among the first ``at`` changes were not durable by then."""
        count = 0
        for change in self.log[:at]:
            count = 0 if change.kind == "sync_names" else count + (change.kind == "name")
        return count

    def after_power_loss(
        self, at: int, survives: Callable[[int], bool], names: int = 0
    ) -> MemoryStorage:
        """What may be found after power was lost behind the first ``at`` changes.

        Args:
            survives: whether the i-th of :meth:`unsynced` reached the disk.
            names: how many of the unsynced name changes did, from the oldest.
        """
        disk = _copy(self._start)
        last_sync = {c.file: i for i, c in enumerate(self.log[:at]) if c.kind == "sync"}
        kept_names = sum(c.kind == "name" for c in self.log[:at]) - self.unsynced_names(at) + names
        for index, change in enumerate(self.log[:at]):
            if change.kind == "name":
                kept_names -= 1
                if kept_names >= 0:
                    disk.rename(change)
            elif index < last_sync.get(change.file, -1):
                disk.apply(change)
        for index, sector in enumerate(self.unsynced(at)):
            if survives(index):
                disk.write(*sector)
        return MemoryStorage(disk, free_bytes=self._free_bytes)


class _MemoryLock(Lock):
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage: MemoryStorage | None = storage

    def release(self) -> None:
        if self._storage is not None:
            self._storage.unlock()
            self._storage = None


def _sectors(change: Change) -> Iterator[Sector]:
    begin, end = change.offset, change.offset + len(change.data)
    while begin < end:
        stop = min(end, begin - begin % SECTOR + SECTOR)
        piece = change.data[begin - change.offset : stop - change.offset]
        yield Sector(change.file, begin, piece)
        begin = stop


def _copy(disk: _Disk) -> _Disk:
    return _Disk({k: bytearray(v) for k, v in disk.files.items()}, dict(disk.names))
