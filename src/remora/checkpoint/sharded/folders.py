"""A folder that several ranks write to: rank 0 leads, the others follow."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from typing import Any

from remora.checkpoint.folder import Folder, Place, write_head
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout, head_digest, root_of_digests
from remora.checkpoint.sharded.coordinator import Coordinator
from remora.checkpoint.slot_files import SlotFiles
from remora.checkpoint.storage.contract import Storage


class Leader(Folder):
    """Rank 0's view: it decides for all, and commits once every rank's part is durable."""

    def __init__(self, storage: Storage, ranks: Coordinator, **keeping: Any) -> None:
        super().__init__(storage, parts=ranks.world, **keeping)
        self._ranks = ranks

    def agree(self, room: Callable[[], bool]) -> bool:
        return bool(self._ranks.announce(room()))

    def prepare(self, size: int) -> None:
        self._remove_strays()
        self._ranks.announce(self.free_slots())
        super().prepare(size)

    def begin(self) -> Place | None:
        place: Place | None = None
        try:
            place = super().begin()
        finally:
            self._ranks.announce((place.sequence, place.slot) if place else None)
        return place

    def commit(self, place: Place, step: int, layout: SlotLayout, hashes: list[int]) -> bool:
        digests, nbytes = [b""], layout.state_bytes
        try:
            digests[0] = head_digest(write_head(place.file, layout, hashes))
        finally:
            parts = self._ranks.gather(f"part/{place.sequence}")
        for rank, (digest, size, failure) in enumerate(parts, start=1):
            if failure:
                raise OSError(errno.EIO, f"rank {rank} could not write its part: {failure}")
            digests.append(digest)
            nbytes += size
        committed = self.acknowledge(place, step, nbytes, root_of_digests(digests))
        place.file.close()
        return committed


class Follower(Folder):
    """The view of any other rank: it writes its part where rank 0 says, and tells when it has."""

    def __init__(self, storage: Storage, ranks: Coordinator) -> None:
        self.storage = storage
        self._ranks = ranks
        self._files = SlotFiles(storage, ranks.rank, ranks.world)
        self._guard = threading.RLock()
        self._told: set[int] = set()
        self.on_commit = []  # rank 0 commits

    @property
    def live(self) -> tuple[Entry, ...]:
        return ()  # only rank 0 has the record at hand

    def agree(self, room: Callable[[], bool]) -> bool:
        return bool(self._ranks.announce(None))

    def prepare(self, size: int) -> None:
        self._files.prepare(size, self._ranks.announce(None))

    def begin(self) -> Place | None:
        said = self._ranks.announce(None)
        if said is None:
            return None
        sequence, slot = said
        try:
            return Place(sequence, slot, self._files.open(slot))
        except OSError as error:
            self._tell(sequence, b"", 0, str(error))
            raise

    def commit(self, place: Place, step: int, layout: SlotLayout, hashes: list[int]) -> bool:
        head = write_head(place.file, layout, hashes)
        self._tell(place.sequence, head_digest(head), layout.state_bytes, "")
        place.file.close()
        return True

    def give_back(self, place: Place) -> None:
        place.file.close()
        if place.sequence not in self._told:
            self._tell(place.sequence, b"", 0, "its save came to nothing")

    def _tell(self, sequence: int, digest: bytes, size: int, failure: str) -> None:
        self._told.add(sequence)
        with contextlib.suppress(Exception) if failure else contextlib.nullcontext():
            self._ranks.deliver(f"part/{sequence}", (digest, size, failure))

    def close(self) -> None:
        pass


def open_folder(storage: Storage, ranks: Coordinator | None, **keeping: Any) -> Folder:
    """The folder as this process sees it: alone, leading or following.

    Args:
        keeping: ``keep``, ``in_flight``, ``keep_every`` and ``spare``; see :class:`Folder`.

    Raises:
        FolderInUse: another job writes to it.
        OSError: it cannot be written.
    """
    if ranks is None:
        return Folder(storage, **keeping)
    if not ranks.leads:
        failure = ranks.announce(None)
        if failure:
            raise OSError(errno.EIO, f"rank 0 could not open it: {failure}")
        return Follower(storage, ranks)
    failure = "it failed"
    try:
        leader = Leader(storage, ranks, **keeping)
        failure = ""
        return leader
    finally:
        ranks.announce(failure)
