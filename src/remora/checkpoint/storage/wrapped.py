"""What storages that stand in front of another one share: they pass everything on."""

from __future__ import annotations

from remora.checkpoint.storage.contract import Lock, Storage, StorageFile


class WrappedFile(StorageFile):
    def __init__(self, inner: StorageFile) -> None:
        self.inner = inner
        self.direct = inner.direct

    def pwrite(self, data: memoryview, offset: int) -> None:
        self.inner.pwrite(data, offset)

    def pread(self, buffer: memoryview, offset: int) -> int:
        return self.inner.pread(buffer, offset)

    def fdatasync(self) -> None:
        self.inner.fdatasync()

    def allocate(self, size: int) -> None:
        self.inner.allocate(size)

    def size(self) -> int:
        return self.inner.size()

    def close(self) -> None:
        self.inner.close()


class WrappedStorage(Storage):
    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return self.inner.open(name, create=create, direct=direct)

    def rename(self, old: str, new: str) -> None:
        self.inner.rename(old, new)

    def remove(self, name: str) -> None:
        self.inner.remove(name)

    def names(self) -> list[str]:
        return self.inner.names()

    def sync_names(self) -> None:
        self.inner.sync_names()

    def free_bytes(self) -> int:
        return self.inner.free_bytes()

    def lock(self) -> Lock:
        return self.inner.lock()
