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
    """A sector's worth of an unsynced write; without data, a new length."""

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
    """A folder in memory. What :meth:`power_loss` says is found starts a log of its own."""

    def __init__(self, disk: _Disk | None = None, *, free_bytes: int = 2**40) -> None:
        self.disk = disk or _Disk()
        self.log: list[Change] = []
        self._start = _copy(self.disk)
        self._free_bytes = free_bytes
        known = (*self.disk.files, *self.disk.names.values())
        self._next = max(known, default=-1) + 1
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

    # ------------------------------------------------------------ crashes

    def after_kill(self, at: int) -> MemoryStorage:
        """What the next process finds if this one died behind the first ``at`` changes.

        All of it is visible; what was not synced still is not, and power may be lost later.
        """
        found = MemoryStorage(_copy(self._start), free_bytes=self._free_bytes)
        for change in self.log[:at]:
            found.do(change)
        found._next = self._next
        return found

    def power_loss(self, at: int) -> PowerLoss:
        """What may be found after power was lost behind the first ``at`` changes."""
        log = self.log[:at]
        synced = {change.file: index for index, change in enumerate(log) if change.kind == "sync"}
        named = max((i for i, change in enumerate(log) if change.kind == "sync_names"), default=-1)
        loss = PowerLoss(_copy(self._start), [], [], self._free_bytes)
        for index, change in enumerate(log):
            if change.kind == "name" and index > named:
                loss.names.append(change)
            elif change.kind == "name" or index < synced.get(change.file, -1):
                loss.durable.apply(change)
            else:
                loss.sectors.extend(_sectors(change))
        return loss


@dataclass(frozen=True)
class PowerLoss:
    """A moment at which power was lost: what is durable, and what may have reached the disk."""

    durable: _Disk
    sectors: list[Sector]
    """Written and not synced, oldest first: any of them may be there."""
    names: list[Change]
    """Name changes that were not synced, oldest first: any number from the first on is there."""
    free_bytes: int

    def found(self, survives: Callable[[int], bool], names: int = 0) -> MemoryStorage:
        """The storage that is found.

        Args:
            survives: whether the i-th of :attr:`sectors` reached the disk.
            names: how many of :attr:`names` did.
        """
        disk = _copy(self.durable)
        for change in self.names[:names]:
            disk.apply(change)
        for index, sector in enumerate(self.sectors):
            if survives(index):
                disk.write(*sector)
        return MemoryStorage(disk, free_bytes=self.free_bytes)


class _MemoryLock(Lock):
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage: MemoryStorage | None = storage

    def release(self) -> None:
        if self._storage is not None:
            self._storage.unlock()
            self._storage = None


def _sectors(change: Change) -> Iterator[Sector]:
    """Of a write, each; of an allocation, the new length alone."""
    if change.kind == "allocate":
        yield Sector(change.file, change.offset, b"")
    begin, end = change.offset, change.offset + len(change.data)
    while begin < end:
        stop = min(end, begin - begin % SECTOR + SECTOR)
        piece = change.data[begin - change.offset : stop - change.offset]
        yield Sector(change.file, begin, piece)
        begin = stop


def _copy(disk: _Disk) -> _Disk:
    return _Disk({k: bytearray(v) for k, v in disk.files.items()}, dict(disk.names))
