"""The progress file of a job: one line a finished step, ``<step> <nanoseconds>``.

The step is a whole number that counts from 0 and does not begin again when the job does; the time
is the monotonic clock's (``time.monotonic_ns()``), which all processes of a machine share. Every
line is one append, so that a kill leaves whole lines; a last line without its newline is passed
over. Any program can write it; :class:`ProgressLog` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

from remora.core.errors import BadValue


@dataclass(frozen=True)
class Finished:
    """Step ``step`` was finished at ``at_ns``."""

    step: int
    at_ns: int


class ProgressLog:
    """Appends to a progress file; for the job itself."""

    def __init__(self, path: Path, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self._now_ns = now_ns
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def finished(self, step: int) -> None:
        """Step ``step`` is done."""
        os.write(self._descriptor, f"{step} {self._now_ns()}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)


def read_progress(path: Path) -> tuple[Finished, ...]:
    """All finished steps in the order they were written; none where there is no file yet.

    Raises:
        BadValue: a line that is not a step and a time.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(
        _finished(line, f"{path}, line {number}")
        for number, line in enumerate(text.split(b"\n")[:-1], start=1)
    )


def _finished(line: bytes, where: str) -> Finished:
    fields = line.split(b" ")
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        shown = line[:40].decode(errors="replace")
        raise BadValue(f"{where}: {shown!r} is not '<step> <nanoseconds>'")
    return Finished(int(fields[0]), int(fields[1]))
