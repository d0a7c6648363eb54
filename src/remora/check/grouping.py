"""Which violations have one cause: those that miss one function, and those of one call in a step.

A step without ``zero_grad`` breaks whatever rests on it: that the forward comes after it, that the
backward does, that it follows the backward. It is told as one thing, by the first of them. What
only comes before or after a call is not of one cause with what that call did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from remora.check.checker import Finding
from remora.check.relations.contains import Contains

MISSING = "missing"


class Cause(NamedTuple):
    """What two violations have in common that have one cause."""

    what: str
    function: str


class Groups:
    """The causes that were met, each with the invariant that was found first.

    A function that is missed is missed for one reason in every step; what a call did wrong in one
    step says nothing of the next.
    """

    def __init__(self) -> None:
        self._now: tuple[int, int] | None = None
        self._first: dict[Cause, str] = {}
        self._missed: dict[tuple[int, Cause], str] = {}

    def of(self, finding: Finding, rank: int) -> str:
        """The name of the invariant that was first found to be violated by the same cause."""
        if self._now != (rank, finding.step):
            missed = {cause: name for (of, cause), name in self._missed.items() if of == rank}
            self._now, self._first = (rank, finding.step), missed
        causes = list(_causes(finding))
        known = (self._first[cause] for cause in causes if cause in self._first)
        first = next(known, finding.invariant.name)
        for cause in causes:
            self._first.setdefault(cause, first)
            if cause.what == MISSING:
                self._missed.setdefault((rank, cause), first)
        return first


def _causes(finding: Finding) -> Iterator[Cause]:
    claim = finding.invariant.claim
    missing = claim.missing()
    if missing is not None:
        yield Cause(MISSING, missing)
    if finding.call is not None and (missing is None or isinstance(claim, Contains)):
        yield Cause("call", finding.call.function)
