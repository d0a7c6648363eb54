"""Which violations have one cause: those of one step that miss one function, or are of one call.

A step without ``zero_grad`` breaks whatever rests on it: that the forward comes after it, that the
backward does, that it follows the backward. It is told as one thing, by the first of them. What
only comes before or after a call is not of one cause with what that call did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from remora.check.checker import Finding
from remora.check.relations.contains import Contains


class Cause(NamedTuple):
    """What two violations have in common that have one cause."""

    what: str
    function: str


class Groups:
    """The causes that were met in a step, each with the invariant that was found first."""

    def __init__(self) -> None:
        self._now: tuple[int, int] | None = None
        self._first: dict[Cause, str] = {}

    def of(self, finding: Finding, rank: int) -> str:
        """The name of the invariant that was first found to be violated by the same cause."""
        if self._now != (rank, finding.step):
            self._now, self._first = (rank, finding.step), {}
        causes = list(_causes(finding))
        known = (self._first[cause] for cause in causes if cause in self._first)
        first = next(known, finding.invariant.name)
        for cause in causes:
            self._first.setdefault(cause, first)
        return first


def _causes(finding: Finding) -> Iterator[Cause]:
    claim = finding.invariant.claim
    missing = claim.missing()
    if missing is not None:
        yield Cause("missing", missing)
    if finding.call is not None and (missing is None or isinstance(claim, Contains)):
        yield Cause("call", finding.call.function)
