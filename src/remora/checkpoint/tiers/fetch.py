"""Bringing a copy into a folder, as the checkpoint that the next run goes on from."""

from __future__ import annotations

import dataclasses
import errno

from remora.checkpoint import commit, inventory
from remora.checkpoint.layout.records import MAX_ENTRIES, Entry
from remora.checkpoint.reading import PartReader, checkpoints
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.tiers.run_name import RunName
from remora.checkpoint.tiers.verified import opened, pieces
from remora.checkpoint.tiers.view import ShelfStorage
from remora.core.errors import CheckpointUnusable


def fetch(copies: ShelfStorage, folder: Storage, step: int | None = None) -> Entry:
    """Copy the newest checkpoint in ``copies``, or that of ``step``, into ``folder``.

    It becomes the newest there, whatever its step; the others stay. The folder goes on with the
    run that the copies are of.

    Raises:
        CheckpointUnusable: there is no such copy, or there is not enough room for it.
        CheckpointDamaged: the copy is damaged; the folder is as it was.
        FolderInUse: a job is writing to the folder.
        OSError: one of both cannot be reached.
    """
    found = inventory.find(copies, step)
    with opened(copies, found) as reader, inventory.only_writer(folder) as log:
        others = log.newest.entries
        known = checkpoints(folder)
        entry = dataclasses.replace(
            found.entry,
            sequence=max((each.entry.sequence for each in known), default=0) + 1,
            slot=next(n for n in range(MAX_ENTRIES) if n not in {each.slot for each in others}),
        )
        for number, part in enumerate(reader.parts):
            _write(folder, commit.slot_name(entry.slot, number, entry.parts), part)
        folder.sync_names()
        owner = copies.shelf.owner()
        if owner is not None:
            RunName(folder).become(owner.run)
        log.append((entry, *others)[:MAX_ENTRIES])
    return entry


def _write(folder: Storage, name: str, part: PartReader) -> None:
    folder.remove(name)
    with folder.open(name, create=True) as file:
        try:
            file.allocate(part.layout.size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise CheckpointUnusable(
                f"{name} needs {part.layout.size:,} bytes, and {folder.free_bytes():,} are free; "
                "choose another disk, or prune the folder"
            ) from None
        offset = 0
        for piece in pieces(part):
            file.pwrite(piece, offset)
            offset += len(piece)
        file.fdatasync()
