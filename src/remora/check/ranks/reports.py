"""One report of the whole job from those of its ranks."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from remora.check.report import CheckReport, Violation


def merged(reports: Iterable[CheckReport]) -> CheckReport:
    """The reports of ranks with the same invariants, the first rank's first."""
    first, *others = reports
    everything = [first, *others]
    violations = _violations(everything)
    violated = {one.invariant for one in violations}
    judged = {name for report in everything for name in report.triggered}
    names = _names(first)
    return msgspec.structs.replace(
        first,
        steps=max(report.steps for report in everything),
        violations=violations,
        triggered=[name for name in names if name in judged],
        passed=[name for name in names if name in judged and name not in violated],
        not_triggered=[name for name in names if name not in judged],
        not_watched={k: why for report in everything for k, why in report.not_watched.items()},
    )


def _names(report: CheckReport) -> list[str]:
    """Of all invariants."""
    return [*report.triggered, *report.not_triggered]


def _violations(reports: Iterable[CheckReport]) -> list[Violation]:
    """Each invariant once, where it was violated first, with the count of all."""
    found: dict[str, Violation] = {}
    for one in sorted((one for report in reports for one in report.violations), key=_step):
        known = found.setdefault(one.invariant, one)
        if known is not one:
            found[one.invariant] = msgspec.structs.replace(
                known,
                count=known.count + one.count,
                last_step=max(known.last_step, one.last_step),
            )
    return list(found.values())


def _step(violation: Violation) -> int:
    return violation.step
