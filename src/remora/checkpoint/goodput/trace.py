"""Preemption traces: how many GPUs a job had, sampled over time, and the failures in that.

The published form (PCcheck, ASPLOS'25) is CSV: a header ``,Time,GPUs``, then an index, the time in
seconds since 1970 and the number of GPUs available. Here the index may be missing, and other
columns are passed over.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from remora.core.errors import BadValue, UnknownName

GPUS_PER_MACHINE = 4
"""Of the published trace's machines; its evaluation counts one failure for each whole four GPUs."""

Counting = Literal["drops", "changes", "published"]
"""What passes for a failure: a loss of GPUs; any change (a job that grows restarts too); or as in
the published evaluation, whole machines lost or gained, those of the first reading included."""

COUNTINGS: tuple[Counting, ...] = get_args(Counting)


@dataclass(frozen=True)
class Reading:
    """At ``time_s`` there were ``gpus``."""

    time_s: float
    gpus: int


@dataclass(frozen=True)
class Change:
    """Between two readings the number of GPUs went from ``before`` to ``after``."""

    at_s: float
    """Seconds since the trace began, of the reading that showed it."""
    before: int
    after: int

    @property
    def machines(self) -> int:
        """Whole machines' worth of GPUs, lost or gained."""
        return abs(self.after - self.before) // GPUS_PER_MACHINE


@dataclass(frozen=True)
class Trace:
    """Readings in the order of time, at least two."""

    name: str
    readings: tuple[Reading, ...]
    synthetic: bool = False
    """Drawn, not recorded."""

    def __post_init__(self) -> None:
        if len(self.readings) < 2:
            raise BadValue(f"{self.name}: {len(self.readings)} readings span no time; give two")

    @property
    def duration_s(self) -> float:
        return self.readings[-1].time_s - self.readings[0].time_s

    @property
    def most_gpus(self) -> int:
        return max(reading.gpus for reading in self.readings)

    def changes(self) -> tuple[Change, ...]:
        """Wherever two readings in a row differ."""
        began = self.readings[0].time_s
        return tuple(
            Change(after.time_s - began, before.gpus, after.gpus)
            for before, after in pairwise(self.readings)
            if after.gpus != before.gpus
        )

    def failures(self, counting: Counting = "drops") -> tuple[float, ...]:
        """When failures came, in seconds since the trace began, in order.

        ``"published"`` repeats a moment for every machine that came or went in it, and begins with
        the machines of the first reading, all at 0.

        Raises:
            UnknownName: no such counting.
        """
        if counting not in COUNTINGS:
            raise UnknownName("counting", counting, COUNTINGS)
        changes = self.changes()
        if counting == "drops":
            return tuple(each.at_s for each in changes if each.after < each.before)
        if counting == "changes":
            return tuple(each.at_s for each in changes)
        first = Change(0.0, 0, self.readings[0].gpus)
        return tuple(each.at_s for each in (first, *changes) for _ in range(each.machines))

    def csv(self) -> str:
        """The trace in the published form."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("", "Time", "GPUs"))
        for index, reading in enumerate(self.readings):
            writer.writerow((index, repr(reading.time_s), reading.gpus))
        return text.getvalue()


def read_trace(path: Path) -> Trace:
    """The trace in the file ``path``.

    Raises:
        BadValue: it cannot be read or is not in the published form; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadValue(f"{path}: {error.strerror}; give the path of a trace in CSV") from error
    except UnicodeDecodeError as error:
        raise BadValue(f"{path} is not text in UTF-8; give a trace in CSV") from error
    return parse_trace(text, str(path))


def parse_trace(text: str, name: str) -> Trace:
    """The trace in ``text``; ``name`` is what messages and tables call it.

    Raises:
        BadValue: as :func:`read_trace`.
    """
    lines = _lines(text, name)
    columns = _columns(next(lines, (1, ()))[1], name)
    readings: list[Reading] = []
    for number, cells in lines:
        where = f"{name}, line {number}"
        reading = _reading(cells, columns, where)
        if readings and reading.time_s <= readings[-1].time_s:
            raise BadValue(
                f"{where}: time {reading.time_s!r} is not after {readings[-1].time_s!r} above it; "
                "sort the readings by time, one a moment"
            )
        readings.append(reading)
    if len(readings) < 2:
        last = text.count("\n") + 1
        raise BadValue(f"{name}, line {last}: ends after {len(readings)} readings; give two")
    return Trace(name, tuple(readings))


def _lines(text: str, name: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Rows that are not blank, with the number of the line each ends on."""
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        for cells in rows:
            if cells:
                yield rows.line_num, cells
    except csv.Error as error:
        raise BadValue(f"{name}, line {rows.line_num}: {error}; write plain CSV") from error


def _columns(header: Sequence[str], name: str) -> Mapping[str, int]:
    found = {cell.strip(): index for index, cell in enumerate(header)}
    missing = [column for column in ("Time", "GPUs") if column not in found]
    if missing:
        raise BadValue(
            f"{name}, line 1: no column {' and '.join(missing)}; begin with the header ',Time,GPUs'"
        )
    return found


def _reading(cells: Sequence[str], columns: Mapping[str, int], where: str) -> Reading:
    time_s = _number(cells, columns, "Time", where)
    gpus = _number(cells, columns, "GPUs", where)
    if gpus != int(gpus):
        raise BadValue(f"{where}: GPUs is {gpus!r}; write a whole number")
    return Reading(time_s, int(gpus))


def _number(cells: Sequence[str], columns: Mapping[str, int], column: str, where: str) -> float:
    index = columns[column]
    if index >= len(cells):
        raise BadValue(f"{where}: {len(cells)} fields, so no {column}; write as many as the header")
    try:
        value = float(cells[index])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadValue(f"{where}: {column} is {cells[index]!r}; write a number, 0 or more")
    return value
