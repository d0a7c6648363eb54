"""What a checkpoint folder holds, and taking things out of it: what the command line shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.checkpoint import commit
from remora.checkpoint.commit import CommitLog
from remora.checkpoint.layout.slot_file import Stored
from remora.checkpoint.reading import Found, Reader, checkpoints
from remora.checkpoint.restore import load_part
from remora.checkpoint.sharded.shards import joined
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.tiers.shelves import open_shelf
from remora.checkpoint.tiers.view import ShelfStorage
from remora.core.errors import BadValue, CheckpointUnusable, RemoraError


@dataclass(frozen=True)
class Verdict:
    """Whether one checkpoint is whole."""

    found: Found
    damage: str | None
    """What is wrong with it; None where every byte is as committed."""


def open_place(place: str) -> Storage:
    """The checkpoint folder ``place``, or the copies there if it is a URL, to be read.

    Raises:
        BadValue: it is a URL of no known kind.
        CheckpointUnusable: it is not there, cannot be reached, or is no checkpoint folder.
        Unavailable: a package for the URL is not installed.
    """
    return open_copies(place) if "://" in place else open_folder(Path(place))


def open_copies(url: str) -> ShelfStorage:
    """The copies at ``url``; raises as :func:`open_place` does."""
    try:
        return ShelfStorage(open_shelf(url))
    except OSError as error:
        raise CheckpointUnusable(f"{url} cannot be reached: {error.strerror or error}") from error


def open_folder(directory: Path) -> LocalStorage:
    """The checkpoint folder ``directory``, as it is.

    Raises:
        CheckpointUnusable: it is not there, or is no checkpoint folder.
    """
    if not directory.is_dir():
        raise CheckpointUnusable(f"there is no folder {str(directory)!r}; give a checkpoint folder")
    storage = LocalStorage(directory, create=False)
    if commit.RING not in storage.names():
        raise CheckpointUnusable(
            f"{str(directory)!r} is no checkpoint folder: it has no file {commit.RING!r}"
        )
    return storage


def committed(storage: Storage) -> list[Found]:
    """The checkpoints that stay, newest first."""
    return [found for found in checkpoints(storage) if found.kind != "given up"]


def find(storage: Storage, step: int | None) -> Found:
    """The newest checkpoint, or that of ``step``.

    Raises:
        CheckpointUnusable: there is none.
    """
    every = committed(storage)
    if not every:
        raise CheckpointUnusable("no checkpoint has been committed here yet")
    if step is None:
        return every[0]
    chosen = next((found for found in every if found.entry.step == step), None)
    if chosen is None:
        steps = ", ".join(str(found.entry.step) for found in every)
        raise CheckpointUnusable(f"there is no checkpoint of step {step}; there are {steps}")
    return chosen


def verify(storage: Storage, found: Found) -> Verdict:
    """Read every byte of ``found``."""
    try:
        with Reader(storage, found) as reader:
            reader.verify()
    except (RemoraError, OSError) as error:
        return Verdict(found, str(error))
    return Verdict(found, None)


def tensors(storage: Storage, found: Found) -> list[Stored]:
    """The tensors of ``found``, all its parts', by name."""
    with Reader(storage, found) as reader:
        every = [stored for part in reader.parts for stored in part.layout.tensors]
    return sorted(every, key=lambda stored: stored.name)


def load(storage: Storage, found: Found) -> dict[str, Any]:
    """The state of ``found``, in memory, verified.

    Raises:
        CheckpointUnusable: it is damaged.
    """
    with Reader(storage, found) as reader:
        return joined([load_part(part) for part in reader.parts], 0)


@contextlib.contextmanager
def only_writer(storage: Storage) -> Iterator[CommitLog]:
    """The commit log of a folder that no job writes to meanwhile.

    Raises:
        FolderInUse: one does.
    """
    lock = storage.lock()
    log = CommitLog(storage)
    try:
        log.open()
        yield log
    finally:
        log.close()
        lock.release()


def prune(storage: Storage, keep: int) -> list[Found]:
    """Give up all but the newest ``keep`` checkpoints, archived ones included.

    Raises:
        BadValue: ``keep`` is less than 1.
        FolderInUse: a job is writing to the folder.
    """
    if keep < 1:
        raise BadValue(f"keep={keep}: choose 1 or more")
    return _give_up(storage, committed(storage)[keep:])


def roll_back(storage: Storage, step: int) -> list[Found]:
    """Make the checkpoint of ``step`` the one to go on from, by giving up all newer ones.

    Raises:
        CheckpointUnusable: there is none of that step, or it is damaged.
        FolderInUse: a job is writing to the folder.
    """
    chosen = find(storage, step)
    damage = verify(storage, chosen).damage
    if damage:
        raise CheckpointUnusable(f"the checkpoint of step {step} cannot be gone back to: {damage}")
    newer = [found for found in committed(storage) if found.entry > chosen.entry]
    return _give_up(storage, newer)


def _give_up(storage: Storage, unwanted: list[Found]) -> list[Found]:
    gone = {found.entry for found in unwanted}
    try:
        with only_writer(storage) as log:
            if gone & set(log.newest.entries):
                log.append(tuple(each for each in log.newest.entries if each not in gone))
            for found in unwanted:
                _remove_files(storage, found)
            storage.sync_names()
    except OSError as error:
        raise CheckpointUnusable(
            f"the checkpoint folder cannot be written: {error.strerror or error}; "
            "what it still lists is as it was"
        ) from error
    return unwanted


def _remove_files(storage: Storage, found: Found) -> None:
    if found.moving:
        storage.remove(commit.archived_record_name(found.entry.step))
    names = {found.part_name(part) for part in range(found.entry.parts)}
    if found.kind == "live":  # of one archived the slot may be another's by now
        names.update(*found.places())
    for name in sorted(names):
        storage.remove(name)
