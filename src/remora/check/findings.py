"""Collect what a checker finds: the first of each invariant is told at once, the rest counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from remora.check.checker import Finding
from remora.check.grouping import Groups
from remora.check.invariants import Invariant
from remora.check.report import Violation
from remora.check.where import user_frame

Announce = Callable[[Violation], object]


class Findings:
    """Violations by invariant, in the order in which they were first seen.

    Args:
        announce: told of the first violation of each invariant.
        where: the place in the user's code at which a call is found to be wrong.
    """

    def __init__(
        self,
        announce: Announce,
        *,
        rank: int = 0,
        where: Callable[[], str | None] = user_frame,
    ) -> None:
        self._announce, self._where = announce, where
        self.rank = rank
        """Of what is added from now on."""
        self._by_invariant: dict[str, Violation] = {}
        self._met: dict[int, tuple[Invariant, Violation]] = {}
        """By the id of the invariant: to name one costs more than all else here."""
        self._groups = Groups()
        self._lock = threading.Lock()

    @property
    def violations(self) -> list[Violation]:
        return list(self._by_invariant.values())

    def add(self, finding: Finding) -> None:
        invariant = finding.invariant
        with self._lock:
            met = self._met.get(id(invariant))
            known = met[1] if met is not None else self._by_invariant.get(name := invariant.name)
            if known is not None:
                known.count += 1
                known.last_step = finding.step
                return
            known = self._by_invariant[name] = self._violation(name, finding)
            self._met[id(invariant)] = invariant, known
        self._announce(known)

    def _violation(self, name: str, finding: Finding) -> Violation:
        return Violation(
            invariant=name,
            group=self._groups.of(finding, self.rank),
            relation=finding.invariant.relation,
            expected=finding.invariant.words(),
            seen=finding.seen,
            step=finding.step,
            where=self._where() if finding.call is not None else None,
            rank=self.rank,
            last_step=finding.step,
        )
