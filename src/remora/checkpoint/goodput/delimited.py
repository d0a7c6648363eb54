"""Goodput as CSV: full precision, units in the names of the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields

from remora.checkpoint.goodput.model import GoodputRow

COLUMNS = (*(field.name for field in fields(GoodputRow)), "formula_error")


def cells(row: GoodputRow) -> tuple[str | int | float, ...]:
    """What ``row`` has under each of :data:`COLUMNS`."""
    return tuple(_cell(getattr(row, name)) for name in COLUMNS)


def goodput_csv(rows: Mapping[str, Sequence[GoodputRow]]) -> str:
    """Rows by workload: a header, then one line a row, which begins with its workload."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("workload", *COLUMNS))
    writer.writerows((name, *cells(row)) for name, group in rows.items() for row in group)
    return text.getvalue()


def _cell(value: str | float | bool) -> str | int | float:
    return str(value).lower() if isinstance(value, bool) else value
