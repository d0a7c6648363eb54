"""A storage that fails when told to: the errors that disks and file systems really give."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage


@dataclass(frozen=True)
class Call:
    """One call that is about to be made."""

    number: int
    """Which call of any kind, from 0."""
    kind: str
    """pwrite, pread, fdatasync, allocate, rename, remove, sync_names or open (that creates)."""
    name: str
    """The file's, or the new one's."""


Fault = Callable[[Call], int]
"""The errno to fail with, or 0 to let the call through."""


def nth(number: int, code: int = errno.EIO) -> Fault:
    """Fail the call of that number alone."""
    return lambda call: code if call.number == number else 0


def every(kind: str, code: int = errno.EIO, *, after: int = 0) -> Fault:
    """Fail every call of ``kind`` from number ``after`` on."""
    return lambda call: code if call.kind == kind and call.number >= after else 0


class FaultyStorage(WrappedStorage):
    """``inner``, but calls fail as ``fault`` says. A failing pwrite has written its first half."""

    def __init__(self, inner: Storage, fault: Fault) -> None:
        super().__init__(inner)
        self.fault = fault
        self.calls: list[Call] = []
        self._guard = threading.Lock()

    def check(self, kind: str, name: str) -> int:
        with self._guard:
            call = Call(len(self.calls), kind, name)
            self.calls.append(call)
        return self.fault(call)

    def raise_if_due(self, kind: str, name: str) -> None:
        if code := self.check(kind, name):
            raise OSError(code, os.strerror(code), name)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        if create:
            self.raise_if_due("open", name)
        return _FaultyFile(self, name, self.inner.open(name, create=create, direct=direct))

    def rename(self, old: str, new: str) -> None:
        self.raise_if_due("rename", new)
        self.inner.rename(old, new)

    def remove(self, name: str) -> None:
        self.raise_if_due("remove", name)
        self.inner.remove(name)

    def sync_names(self) -> None:
        self.raise_if_due("sync_names", ".")
        self.inner.sync_names()


class _FaultyFile(WrappedFile):
    def __init__(self, storage: FaultyStorage, name: str, inner: StorageFile) -> None:
        super().__init__(inner)
        self._storage, self._name = storage, name

    def pwrite(self, data: memoryview, offset: int) -> None:
        if code := self._storage.check("pwrite", self._name):
            half = len(data) // 2 // 4096 * 4096
            self.inner.pwrite(data[:half], offset)
            raise OSError(code, os.strerror(code), self._name)
        self.inner.pwrite(data, offset)

    def pread(self, buffer: memoryview, offset: int) -> int:
        self._storage.raise_if_due("pread", self._name)
        return self.inner.pread(buffer, offset)

    def fdatasync(self) -> None:
        self._storage.raise_if_due("fdatasync", self._name)
        self.inner.fdatasync()

    def allocate(self, size: int) -> None:
        if size > self.inner.size():
            self._storage.raise_if_due("allocate", self._name)
        self.inner.allocate(size)
