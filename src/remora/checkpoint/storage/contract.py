"""The contract of a storage: a folder of files, and the three calls that make bytes durable.

Everything the checkpoint service writes goes through here: ``pwrite``, ``fdatasync`` and
``rename`` with its directory sync. What is not synced may be lost, whole or by sector, and in any
order. ``tests/conformance/test_storage.py`` holds every storage to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

SECTOR = 512
"""Bytes a disk writes whole or not at all; what is torn is torn here."""
BLOCK = 4096
"""Alignment of offsets, lengths and addresses that direct I/O asks for."""


class StorageFile(ABC):
    """An open file. Threads may write disjoint ranges of it at once."""

    direct: bool
    """Whether addresses, offsets and lengths must be multiples of :data:`BLOCK`."""

    @abstractmethod
    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of ``data`` at ``offset``; not durable before :meth:`fdatasync`.

        Raises:
            OSError: ENOSPC, EIO …; any part of ``data`` may then have been written.
        """

    @abstractmethod
    def pread(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; the count is less only where the file ends."""

    @abstractmethod
    def fdatasync(self) -> None:
        """Return when everything written so far, and the file's length, is durable.

        Raises:
            OSError: nothing since the last successful call may be taken for durable.
        """

    @abstractmethod
    def allocate(self, size: int) -> None:
        """Reserve space and set the length to ``size`` bytes (at least; never shrinks).

        Raises:
            OSError: ENOSPC, and the length is as it was.
        """

    @abstractmethod
    def size(self) -> int:
        """The length in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Calling it twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lock(ABC):
    """Held by one process; gone when that process is, however it ended."""

    @abstractmethod
    def release(self) -> None:
        """Calling it twice does no harm."""


class Storage(ABC):
    """A folder of files by name. Names may contain one level of folder, as ``archive/x``."""

    @abstractmethod
    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        """Open for reading and writing, or for reading only where writing is not permitted.

        ``direct`` asks to go past the page cache; a storage that cannot gives a file whose
        ``direct`` is False. A file's name is durable after :meth:`sync_names`.

        Raises:
            FileNotFoundError: there is none and ``create`` is False.
        """

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Atomic, replacing ``new``; durable after :meth:`sync_names`."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file; harmless where there is none."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted."""

    @abstractmethod
    def sync_names(self) -> None:
        """Make creations, renames and removals durable."""

    @abstractmethod
    def free_bytes(self) -> int:
        """How much more may be written."""

    @abstractmethod
    def lock(self) -> Lock:
        """Become the only writer.

        Raises:
            FolderInUse: another process, or another holder in this one, is it.
        """
