"""The records of a trace of TrainCheck's, in the order in which they happened.

A trace is a folder of JSON lines: ``trace_API_<process>_<thread>.log`` with a record where a call
begins and one where it ends, ``trace_VAR_…`` and ``proxy_log.json`` with the states of variables.
A file is in the order of its thread; files are merged by time. Processes count their steps each
for itself: what happened in one step comes before what happened in the next in any of them.

Fields that later versions may add are passed over, unlike those of our own files: a record says
what happened, and says it still.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from remora.core.errors import TraceUnusable
from remora.core.files import UNDECODABLE

_PATTERNS = ("trace_API_*", "trace_VAR_*", "*proxy_log.json")


class _Record(msgspec.Struct, tag_field="type", kw_only=True):
    process_id: int = 0
    thread_id: int = 0
    meta_vars: dict[str, Any] = {}
    time: int | None = None
    """Monotonic, in nanoseconds."""

    @property
    def step(self) -> int | None:
        step = self.meta_vars.get("step")
        return int(step) if isinstance(step, int | float) else None


class Begin(_Record, tag="function_call (pre)"):
    """A call begins."""

    func_call_id: str
    function: str
    is_bound_method: bool = False
    obj_id: int | None = None
    args: dict[str, Any] = {}
    kwargs: dict[str, Any] = {}


class End(_Record, tag="function_call (post)"):
    """It has returned."""

    func_call_id: str
    return_values: Any = None


class Raised(_Record, tag="function_call (post) (exception)"):
    """It has raised."""

    func_call_id: str


class State(_Record, tag="state_change"):
    """What a variable is now."""

    var_name: str
    var_type: str
    attributes: dict[str, Any] = {}


Record = Begin | End | Raised | State
Timed = tuple[int, Record]
Stepped = tuple[int, int, Record]
"""Step, time, record."""


class Records:
    """A trace: a folder, or one of its files.

    Raises:
        TraceUnusable: there is no trace at ``path``; while iterating, a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._files = _files_of(path)
        self.warnings: list[str] = []
        """What was passed over, and where."""

    def __iter__(self) -> Iterator[Stepped]:
        by_process: dict[int, list[Iterator[Timed]]] = defaultdict(list)
        for path in self._files:
            records = self._records_of(path)
            if (first := next(records, None)) is not None:
                by_process[first[1].process_id].append(chain([first], records))
        return merge(
            *(_with_steps(merge(*files, key=_time)) for files in by_process.values()),
            key=_step_and_time,
        )

    def _records_of(self, path: Path) -> Iterator[Timed]:
        """The records of one file; one without a time has that of the one before it."""
        time = 0
        decoder = msgspec.json.Decoder(Record)
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                record = self._decoded(decoder, path, number, line) if line.strip() else None
                if record is not None:
                    time = record.time if record.time is not None else time
                    yield time, record

    def _decoded(
        self, decoder: msgspec.json.Decoder[Record], path: Path, number: int, line: bytes
    ) -> Record | None:
        try:
            return decoder.decode(line)
        except msgspec.ValidationError as error:
            raise _damaged(path, number, error) from None
        except UNDECODABLE as error:
            if line.endswith(b"\n"):
                raise _damaged(path, number, error) from None
            self.warnings.append(f"{path}, line {number}: the last line is cut short, passed over")
            return None


def is_trace(path: Path) -> bool:
    """Whether ``path`` is named, or holds files that are named, as TrainCheck names its traces."""
    if path.is_dir():
        return bool(_named(path))
    return path.is_file() and any(fnmatch(path.name, pattern) for pattern in _PATTERNS)


def _named(folder: Path) -> list[Path]:
    try:
        names = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError:
        return []
    return [file for file in names if any(fnmatch(file.name, one) for one in _PATTERNS)]


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TraceUnusable(f"{path} is not there; give the folder that TrainCheck's collect wrote")
    found = _named(path)
    if not found:
        raise TraceUnusable(f"{path} holds no trace: no file is named {', '.join(_PATTERNS)}")
    return found


def _damaged(path: Path, number: int, error: Exception) -> TraceUnusable:
    return TraceUnusable(
        f"{path}, line {number}: {error}; a trace of TrainCheck's is one JSON record a line"
    )


def _with_steps(records: Iterator[Timed]) -> Iterator[Stepped]:
    """Each with the step of its process: the highest that was met in it so far."""
    steps: dict[int, int] = {}
    for time, record in records:
        known, step = steps.get(record.process_id), record.step
        if step is None or (known is not None and step < known):
            step = 0 if known is None else known
        steps[record.process_id] = step
        yield step, time, record


def _time(timed: Timed) -> int:
    return timed[0]


def _step_and_time(stepped: Stepped) -> tuple[int, int]:
    return stepped[:2]
