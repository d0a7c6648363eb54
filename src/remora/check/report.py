"""What a check came to: every invariant accounted for, every violation once, with its count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from remora.check.invariants import Invariant, counted
from remora.core.files import write_atomically

REPORT_VERSION = 1
MOST_SAID = 5
"""Invariants that are not checked, told one by one on the screen."""


class Violation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One invariant that did not hold, at the first step where it did not."""

    invariant: str
    """Its name, as in the file of invariants."""
    group: str = ""
    """The invariant that was first found to be violated by the same cause; itself, if it was."""
    relation: str
    expected: str
    seen: str
    step: int
    where: str | None
    """``file:line`` in the user's code; None where there is none."""
    rank: int = 0
    count: int = 1
    """How often it did not hold."""
    last_step: int


class NotChecked(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An invariant, or a part of one, that is judged by nothing here."""

    invariant: str
    """Its name, or the line of the file where it is none of ours."""
    expected: str
    reason: str


class CheckReport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``--report`` writes. Lists hold names of invariants."""

    version: int = REPORT_VERSION
    program: str
    steps: int
    every: int = 1
    """One step in so many was watched."""
    invariants: int
    violations: list[Violation]
    triggered: list[str]
    """Those that were judged at least once."""
    passed: list[str]
    """Those of them that always held."""
    not_triggered: list[str]
    """Those whose condition or function never came."""
    not_checked: list[NotChecked] = []
    """Those that cannot be judged here at all: each has a reason."""
    checked_in_part: list[NotChecked] = []
    """Those of which a part is not asked; they are among the others as well."""
    not_watched: dict[str, str] = {}
    """Functions that could not be watched, and why."""

    def summary(self) -> str:
        """One line."""
        parts = [f"{len(self.passed)} passed", f"{len(self.not_triggered)} not triggered"]
        if self.violations:
            parts.insert(0, f"{len(self.violations)} violated")
        if self.not_checked:
            parts.append(f"{len(self.not_checked)} not checked")
        each = counted(self.invariants, "invariant")
        sampled = f", 1 in {self.every} watched" if self.every > 1 else ""
        return f"{each} over {counted(self.steps, 'step')}{sampled}: {', '.join(parts)}"


def account(
    program: str,
    steps: int,
    judged: Sequence[tuple[Invariant, int]],
    violations: Sequence[Violation],
    *,
    not_checked: Sequence[NotChecked] = (),
    checked_in_part: Sequence[NotChecked] = (),
    not_watched: Mapping[str, str] = MappingProxyType({}),
    every: int = 1,
) -> CheckReport:
    """The report on the invariants of a file.

    Args:
        judged: each, with how often it was judged; those ``not_checked`` may be among them.
    """
    violated = {one.invariant for one in violations}
    left_out = {one.invariant for one in not_checked}
    checked = [(one.name, times) for one, times in judged if one.name not in left_out]
    triggered = [name for name, times in checked if times]
    return CheckReport(
        program=program,
        steps=steps,
        every=every,
        invariants=len(checked) + len(not_checked),
        violations=list(violations),
        triggered=triggered,
        passed=[name for name in triggered if name not in violated],
        not_triggered=[name for name, times in checked if not times],
        not_checked=list(not_checked),
        checked_in_part=list(checked_in_part),
        not_watched=dict(not_watched),
    )


def shortened(not_checked: Sequence[NotChecked]) -> Iterator[str]:
    """A line each for the first few, and one for how many there are more."""
    for one in not_checked[:MOST_SAID]:
        yield f"[{one.invariant}] is not checked: {one.expected}: {one.reason}"
    if (more := len(not_checked) - MOST_SAID) > 0:
        yield f"{more:,} more are not checked; `--report` tells each with its reason"


def write_json(path: Path, report: CheckReport) -> None:
    """Write ``report`` in one piece.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
