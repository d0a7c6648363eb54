"""A trace is a folder with one file for every process of the job."""

from __future__ import annotations

import os
import re
from pathlib import Path

from remora.core.errors import TraceUnusable

_NAME = re.compile(r"rank(\d+)-pid(\d+)\.jsonl")


def claim(folder: Path, rank: int, *, overwrite: bool = False) -> Path:
    """The file that process of ``rank`` is to write, in a folder that is made if need be.

    Ranks of one job share the folder and come at any time, so each answers for its own rank only.
    A rank that torchrun has started anew adds a file.

    Raises:
        TraceUnusable: this rank has been recorded there already, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = [path for path in _files(folder) if rank_of(path) == rank]
        if overwrite:
            for path in old:
                path.unlink()
        elif old and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            raise TraceUnusable(
                f"{folder} holds a trace already ({old[0].name}); record into another folder, "
                "or replace it with --overwrite"
            )
        path = folder / f"rank{rank}-pid{os.getpid()}.jsonl"
        path.touch()
    except OSError as error:
        raise TraceUnusable(f"{folder} cannot be written: {error.strerror}") from None
    return path


def files_of(folder: Path) -> tuple[Path, ...]:
    """The files of the trace in ``folder``, by rank.

    Raises:
        TraceUnusable: there is none.
    """
    try:
        found = _files(folder)
    except OSError as error:
        raise TraceUnusable(f"{folder} is no trace: {error.strerror}; {_NEXT}") from None
    if not found:
        raise TraceUnusable(f"{folder} holds no trace; {_NEXT}")
    return found


_NEXT = "record one with `remora run --record DIR script.py`"


def _files(folder: Path) -> tuple[Path, ...]:
    named = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return tuple(sorted(named, key=_of_name))


def rank_of(path: Path) -> int:
    """The rank of the process that wrote the file at ``path``."""
    return _of_name(path)[0]


def _of_name(path: Path) -> tuple[int, int]:
    """Rank and process."""
    found = _NAME.fullmatch(path.name)
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)
