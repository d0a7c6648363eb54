"""What a check came to: every invariant accounted for, every violation once, with its count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from remora.check.invariants import Invariant
from remora.core.files import write_atomically

REPORT_VERSION = 1


class Violation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One invariant that did not hold, at the first step where it did not."""

    invariant: str
    """Its name, as in the file of invariants."""
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


class CheckReport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``--report`` writes. Lists hold names of invariants."""

    version: int = REPORT_VERSION
    program: str
    steps: int
    invariants: int
    violations: list[Violation]
    triggered: list[str]
    """Those that were judged at least once."""
    passed: list[str]
    """Those of them that always held."""
    not_triggered: list[str]
    """Those whose condition or function never came."""
    not_watched: dict[str, str] = {}
    """Functions that could not be watched, and why."""

    def summary(self) -> str:
        """One line."""
        parts = [f"{len(self.passed)} passed", f"{len(self.not_triggered)} not triggered"]
        if self.violations:
            parts.insert(0, f"{len(self.violations)} violated")
        steps = f"{self.steps:,} step{'' if self.steps == 1 else 's'}"
        return f"{self.invariants} invariants over {steps}: {', '.join(parts)}"


def account(
    program: str,
    steps: int,
    invariants: Sequence[tuple[Invariant, int]],
    violations: Sequence[Violation],
    not_watched: dict[str, str],
) -> CheckReport:
    """The report on ``invariants``, each with how often it was judged."""
    violated = {one.invariant for one in violations}
    triggered = [one.name for one, times in invariants if times]
    return CheckReport(
        program=program,
        steps=steps,
        invariants=len(invariants),
        violations=list(violations),
        triggered=triggered,
        passed=[name for name in triggered if name not in violated],
        not_triggered=[one.name for one, times in invariants if not times],
        not_watched=not_watched,
    )


def write_json(path: Path, report: CheckReport) -> None:
    """Write ``report`` in one piece.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
