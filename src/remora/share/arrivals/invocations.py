"""Arrivals from a trace of function invocations, in the form of the public one.

The Azure Functions trace of 2019 (Shahrad et al., ATC'20) has a CSV a day: the columns
``HashOwner``, ``HashApp``, ``HashFunction``, ``Trigger``, then ``1`` to ``1440``, the invocations
of one function in each minute of the day. Tally (ASPLOS'25) takes from it the load of its requests:
the busiest function of days 3 and 4, of whose invocations as many are kept, at random, as make the
load that is wanted, with the time between them squeezed into the time that is measured.
"""

from __future__ import annotations

import csv
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue
from remora.share.arrivals.contract import Arrivals

MINUTES = 1440
"""Of a day, a column each."""
LABELS = ("HashOwner", "HashApp", "HashFunction", "Trigger")
HEADER = (*LABELS, *map(str, range(1, MINUTES + 1)))
MOST_DIGITS = 9
"""Of the invocations in a minute: more is no count but a mistake."""

Key = tuple[str, str, str]
"""Owner, app and function."""


@dataclass(frozen=True, eq=False)
class Invocations(Arrivals):
    """One function's invocations, thinned to the rate that is wanted and squeezed into its time.

    ``per_minute`` has the invocations of each minute, shape (minutes,).
    """

    name = "trace"
    per_minute: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.per_minute.sum())

    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        wanted = math.floor(per_second * duration_s + 1e-6)  # 0.29 / 0.01 is just below 29
        if wanted > self.total:
            raise BadValue(
                f"{per_second:g} requests a second for {duration_s:g} s are {wanted:,}, and the "
                f"busiest function of the trace has {self.total:,} invocations; choose a lower "
                "load, a shorter time, or more days of the trace"
            )
        chosen = random.Random(int(rng.integers(2**63))).sample(range(self.total), wanted)
        ends = np.cumsum(self.per_minute)
        minutes = np.searchsorted(ends, np.array(chosen, dtype=np.int64), side="right")
        # Of a minute only the count is known: within it they come at random.
        moments = minutes + rng.uniform(size=wanted)
        return moments * (duration_s / self.per_minute.size)


def busiest_function(paths: Sequence[Path]) -> Invocations:
    """The function with the most invocations in these days, one file each, in their order.

    Raises:
        BadValue: a file that cannot be read or is not of the form; the message names the line.
    """
    if not paths:
        raise BadValue("no file of the trace is given; give the CSV of a day, or of several")
    totals: Counter[Key] = Counter()
    for path in paths:
        for key, counts in _rows(path):
            totals[key] += sum(counts)
    key, total = max(totals.items(), key=lambda each: each[1], default=(("", "", ""), 0))
    if not total:
        names = ", ".join(map(str, paths))
        raise BadValue(f"{names}: no function was invoked; give a day with invocations")
    return Invocations(np.concatenate([_day(path, key) for path in paths]))


def _day(path: Path, wanted: Key) -> NDArray[np.int64]:
    """The function's invocations of one day; it may have several rows, one for each trigger."""
    day = np.zeros(MINUTES, dtype=np.int64)
    for _, counts in _rows(path, wanted):
        day += np.array(counts, dtype=np.int64)
    return day


def _rows(path: Path, only: Key | None = None) -> Iterator[tuple[Key, list[int]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from parse_rows(lines, str(path), only)
    except OSError as error:
        raise BadValue(f"{path}: {error.strerror}; give a day of the trace in CSV") from error
    except UnicodeDecodeError as error:
        raise BadValue(f"{path} is not text in UTF-8; give a day of the trace in CSV") from error


def parse_rows(
    lines: Iterable[str], name: str, only: Key | None = None
) -> Iterator[tuple[Key, list[int]]]:
    """Each function of a day, or one alone, with its invocations a minute, shape (1440,).

    Raises:
        BadValue: a line that is not of the form; the message names it.
    """
    reader = csv.reader(lines, strict=True)
    try:
        _check_header(next(reader, []), name)
        for cells in reader:
            if cells and (only is None or tuple(cells[:3]) == only):
                counts = _counts(cells, f"{name}, line {reader.line_num}")
                yield (cells[0], cells[1], cells[2]), counts
    except csv.Error as error:
        raise BadValue(f"{name}, line {reader.line_num}: {error}; write plain CSV") from error


def _check_header(cells: Sequence[str], name: str) -> None:
    if tuple(cells) == HEADER:
        return
    found = ",".join(cells[:5])[:80]
    has = f"{len(cells)} columns that begin with {found!r}" if cells else "nothing is there"
    raise BadValue(
        f"{name}, line 1: {has}; begin with the header {','.join(HEADER[:5])}, … {MINUTES}"
    )


def _counts(cells: Sequence[str], where: str) -> list[int]:
    if len(cells) != len(HEADER):
        raise BadValue(f"{where}: {len(cells)} fields; write {len(HEADER)}, as many as the header")
    minutes = cells[len(LABELS) :]
    joined = "".join(minutes)
    all_digits = joined.isascii() and joined.isdigit() and "" not in minutes
    if all_digits and max(map(len, minutes)) <= MOST_DIGITS:  # at once: a day has 60 million cells
        return [int(each) for each in minutes]
    minute, wrong = next((i, each) for i, each in enumerate(minutes, 1) if not _is_count(each))
    raise BadValue(
        f"{where}: {wrong[:40]!r} invocations in minute {minute}; "
        f"write a whole number of at most {MOST_DIGITS} digits"
    )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
