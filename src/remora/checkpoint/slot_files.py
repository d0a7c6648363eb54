"""The files that slots are: one a slot and rank, all of one size, written once in full."""

from __future__ import annotations

from collections.abc import Callable, Collection

from remora.checkpoint.commit import slot_name
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.core.errors import CheckpointUnusable
from remora.core.units import format_bytes

_FILL_BYTES = 8 * 2**20


class SlotFiles:
    """One rank's slot files in ``storage``.

    Args:
        part: this rank.
        parts: how many ranks there are.
    """

    def __init__(self, storage: Storage, part: int = 0, parts: int = 1) -> None:
        self._storage, self._part, self._parts = storage, part, parts
        self._size = 0
        self._new_names = False
        self._known: set[int] = set()
        """Slots seen to have a file of the right size: looking again takes longer than all else."""

    def name(self, slot: int) -> str:
        return slot_name(slot, self._part, self._parts)

    def prepare(self, size: int, slots: Collection[int]) -> None:
        """Make the files of ``slots`` so large, each written once in full.

        First writes into unwritten extents run at half speed, so they are done here, once.

        Raises:
            CheckpointUnusable: there is not that much room.
            OSError: they cannot be written.
        """
        self._size = size
        self._known.clear()
        self._check_room(slots)
        for slot in slots:
            if not self.is_there(slot):
                self._made(slot, _fill).close()
        self.sync_names()

    def open(self, slot: int) -> StorageFile:
        """The slot's file, at its size and with a durable name. Opened by name: the one of last
        time may be archived.

        Raises:
            OSError: it cannot be made.
        """
        # Where it has none the training thread waits: reserve the space, the save fills it.
        file = self._present(slot) or self._made(slot, _reserve)
        try:
            self.sync_names()
        except BaseException:
            file.close()
            raise
        return file

    def _present(self, slot: int) -> StorageFile | None:
        try:
            file = self._storage.open(self.name(slot), direct=True)
        except FileNotFoundError:
            return None
        if file.size() == self._size:
            return file
        file.close()
        return None

    def is_there(self, slot: int) -> bool:
        """Whether the slot had a file of the right size when last looked at."""
        if slot not in self._known and self._present_size(self.name(slot)) == self._size:
            self._known.add(slot)
        return slot in self._known

    def forget(self, slot: int) -> None:
        """The slot's file has been moved away."""
        self._known.discard(slot)

    def _made(self, slot: int, fill: Callable[[StorageFile, int], None]) -> StorageFile:
        name = self.name(slot)
        self._new_names = True
        self._storage.remove(name)
        file = self._storage.open(name, create=True, direct=True)
        try:
            fill(file, self._size)
        except BaseException:
            file.close()
            self._storage.remove(name)
            raise
        return file

    def sync_names(self) -> None:
        """Make the names of new files durable."""
        if self._new_names:
            self._storage.sync_names()
            self._new_names = False

    def _present_size(self, name: str) -> int:
        try:
            with self._storage.open(name) as file:
                return file.size()
        except FileNotFoundError:
            return -1

    def _check_room(self, slots: Collection[int]) -> None:
        sizes = [max(self._present_size(self.name(slot)), 0) for slot in slots]
        stale = [size for size in sizes if size != self._size]
        free, missing = self._storage.free_bytes(), len(stale) * self._size
        if missing > free + sum(stale):
            raise CheckpointUnusable(
                f"{len(slots)} slots of {format_bytes(self._size)} need {format_bytes(missing)} "
                f"more, and {format_bytes(free)} are free; keep fewer, have fewer in flight, "
                "or choose another disk"
            )


def _reserve(file: StorageFile, size: int) -> None:
    file.allocate(size)


def _fill(file: StorageFile, size: int) -> None:
    file.allocate(size)
    zeros = aligned(min(size, _FILL_BYTES))
    for begin in range(0, size, len(zeros)):
        file.pwrite(zeros[: size - begin], begin)
    file.fdatasync()
