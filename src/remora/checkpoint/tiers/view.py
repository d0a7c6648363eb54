"""A shelf as a checkpoint folder that can only be read.

What reads and verifies a folder on disk reads a shelf so, byte by byte and with the same code:
restoring, listing, verifying and exporting work on either. Copies are read where they are, not
brought into the local folder first: nothing there has to be made room for, and a restore that is
killed leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from typing import NoReturn

from remora.checkpoint import commit
from remora.checkpoint.layout import records
from remora.checkpoint.layout.records import Record
from remora.checkpoint.storage.contract import Lock, Storage, StorageFile
from remora.checkpoint.tiers.contract import Copy, Shelf
from remora.core.errors import CheckpointUnusable


class ShelfStorage(Storage):
    """The copies that are on ``shelf`` now, as the checkpoints that a ring of one record lists.

    Raises:
        OSError: the shelf cannot be reached.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._copies = shelf.copies()[: records.MAX_ENTRIES]

    @property
    def last_step(self) -> int:
        """Of the newest copy; -1 where there is none."""
        return self._copies[0].entry.step if self._copies else -1

    def _ring(self) -> bytes:
        """Slots and sequences are new: those of different generations need not go together."""
        count = len(self._copies)
        entries = tuple(
            dataclasses.replace(copy.entry, slot=slot, sequence=count - slot)
            for slot, copy in enumerate(self._copies)
        )
        return records.encode(Record(1, entries))

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        if create:
            self._refuse()
        if name == commit.RING:
            return _Bytes(self._ring())
        for slot, copy in enumerate(self._copies):
            for part in range(copy.entry.parts):
                if name == commit.slot_name(slot, part, copy.entry.parts):
                    return _CopiedFile(self.shelf, copy, part)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def names(self) -> list[str]:
        slots = [
            commit.slot_name(slot, part, copy.entry.parts)
            for slot, copy in enumerate(self._copies)
            for part in range(copy.entry.parts)
        ]
        return [commit.RING, *slots]

    def rename(self, old: str, new: str) -> None:
        self._refuse()

    def remove(self, name: str) -> None:
        self._refuse()

    def sync_names(self) -> None:
        self._refuse()

    def free_bytes(self) -> int:
        return 0

    def lock(self) -> Lock:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise CheckpointUnusable(
            f"{self.shelf.place} holds copies, which can only be read; "
            "bring one into a folder with `remora checkpoint restore FOLDER --from`"
        )


class _ReadOnly(StorageFile):
    direct = False

    def pwrite(self, data: memoryview, offset: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def allocate(self, size: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def fdatasync(self) -> None:
        pass

    def close(self) -> None:
        pass


class _CopiedFile(_ReadOnly):
    def __init__(self, shelf: Shelf, copy: Copy, part: int) -> None:
        self._shelf, self._copy, self._part = shelf, copy, part

    def pread(self, buffer: memoryview, offset: int) -> int:
        done = 0
        while done < len(buffer):
            count = self._shelf.pread(self._copy, self._part, buffer[done:], offset + done)
            if count == 0:
                break
            done += count
        return done

    def size(self) -> int:
        return self._copy.sizes[self._part]


class _Bytes(_ReadOnly):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def pread(self, buffer: memoryview, offset: int) -> int:
        found = self._content[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def size(self) -> int:
        return len(self._content)
