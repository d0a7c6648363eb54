"""What there is to resume: which journal is in force, and up to which checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remora.checkpoint import commit
from remora.checkpoint.layout import records
from remora.checkpoint.ride import journal
from remora.checkpoint.ride.journal import Begun, Log, Point
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.core.errors import CheckpointUnusable

_OURS = ("commits", "lock", "slot-", "archive/", "journal")


@dataclass(frozen=True)
class Names:
    """The journal's file, and that of a run that starts over beside one it may yet fall back to."""

    current: str
    fresh: str
    of_first: bool = True
    """Whether this is the only rank, or the first: the one that speaks for all."""

    @staticmethod
    def of_rank(rank: int, ranks: int) -> Names:
        suffix = f".rank-{rank:04}" if ranks > 1 else ""
        return Names(f"journal{suffix}", f"journal-fresh{suffix}", rank == 0)


@dataclass(frozen=True)
class Resumption:
    """Where to go on."""

    log: Log
    target: Point | None
    """None: the script had run to its end."""


def open_folder(directory: Path, *, fresh: bool, alone: bool = True) -> LocalStorage:
    """The folder, checked before the script runs: it can be written and nobody else writes to it.

    Args:
        fresh: start over, also beside files that are not ours.
        alone: there are no other ranks, which would look at the same moment.

    Raises:
        CheckpointUnusable: it cannot be written, or holds something else.
        FolderInUse: another job writes to it.
    """
    try:
        storage = LocalStorage(directory)
        names = storage.names()
        strange = [name for name in names if not name.startswith(_OURS)]
        if strange and not any(name == commit.RING for name in names) and not fresh:
            raise CheckpointUnusable(
                f"folder {str(directory)!r} holds no checkpoints but other files "
                f"({strange[0]}); choose an empty folder, or use this one with --fresh"
            )
        if alone:
            storage.lock().release()
    except OSError as error:
        raise CheckpointUnusable(
            f"checkpoint folder {str(directory)!r} cannot be written: "
            f"{error.strerror or error}; choose a folder that can"
        ) from None
    return storage


def newest_sequence(storage: Storage) -> int:
    """Of the checkpoints in the folder; 0 where there are none."""
    known = [*records.candidates(commit.read_records(storage)), *commit.archived(storage)]
    return max((entry.sequence for entry in known), default=0)


def settle(storage: Storage, names: Names) -> None:
    """If a run that started over has a checkpoint of its own, its journal is in force from now."""
    fresh = journal.read(storage, names.fresh)
    if fresh is not None and newest_sequence(storage) > fresh.begun.after_sequence:
        storage.rename(names.fresh, names.current)
        storage.sync_names()


def find(storage: Storage, names: Names, begun: Begun) -> Resumption | None:
    """What there is to resume; None where nothing is.

    Raises:
        CheckpointUnusable: the checkpoints are another script's, or saved without a journal.
    """
    settle(storage, names)
    if not newest_sequence(storage):
        return None
    log = journal.read(storage, names.current)
    if log is None:
        raise CheckpointUnusable(
            "the folder's checkpoints have no journal: a script that saves by itself made them; "
            "choose another folder, or start over with --fresh"
        )
    if log.begun.script != begun.script:
        raise CheckpointUnusable(
            f"the folder's checkpoints are of {log.begun.script!r}; give {begun.script!r} a folder "
            "of its own, or start over with --fresh"
        )
    return _newest_whole(storage, log)


def _newest_whole(storage: Storage, log: Log) -> Resumption:
    """Every byte is verified: a replay cannot go back to an older checkpoint once it is past it."""
    from remora.checkpoint import reading  # it needs torch

    found = [
        each for each in reading.checkpoints(storage)
        if each.entry.sequence > log.begun.after_sequence and each.kind != "given up"
    ]  # fmt: skip
    for reader in reading.whole(storage, found, lambda each, error: None):
        upto = log.upto(reader.found.entry.step)
        if upto is None:
            continue
        try:
            for part in reader.parts:
                part.verify()
        except (CheckpointUnusable, OSError):
            continue
        target = upto.frames[-1].frame
        if log.ended is not None or (isinstance(target, Point) and target.at == "end"):
            return Resumption(log, None)
        return Resumption(upto, target if isinstance(target, Point) else None)
    raise CheckpointUnusable(
        f"none of the folder's {len(found)} checkpoints is whole and has its journal; "
        "see `remora checkpoint verify`, or start over with --fresh"
    )
