"""Where a check's report goes: JSON or a page, as the file's name says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from remora.check.invariants import Invariant
from remora.check.page import write_page
from remora.check.report import CheckReport, write_json
from remora.core.errors import BadValue

SUFFIXES = (".json", ".html")


def check_report_name(path: Path) -> Path:
    """``path``, if its name says what to write.

    Raises:
        BadValue: it ends in neither ``.json`` nor ``.html``.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadValue(f"--report {path}: choose a name that ends in {' or '.join(SUFFIXES)}")
    return path


def write_report(path: Path, report: CheckReport, invariants: Iterable[Invariant]) -> None:
    """Write ``report``, of a check of ``invariants``, as the name of ``path`` says.

    Raises:
        BadValue: it cannot be written.
    """
    try:
        if path.suffix.lower() == ".html":
            write_page(path, report, {one.name: (one.relation, one.words()) for one in invariants})
        else:
            write_json(path, report)
    except OSError as error:
        raise BadValue(
            f"--report {path} cannot be written: {error.strerror}; choose another place"
        ) from None
