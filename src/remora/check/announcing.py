"""Say what is found when it is found: a few lines a step, however much there is.

The first violation of each cause is told whole, at once. What else has the same cause is named
as the step ends. In a step in which everything is wrong three causes are told whole, in a run
twenty; the others are counted, and the end of the run says how many there were.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from remora.check.report import Violation

MOST_IN_STEP = 3
"""Causes told whole in one step."""
MOST_IN_RUN = 20
"""Causes told whole in one run: about a screen."""
MOST_NAMED = 6
"""Invariants named in one line."""


class Announcer:
    """Told of the first violation of each invariant.

    Args:
        say: takes what is for the user's eyes.
        names_rank: whether the job has several, so that each violation says of which it is.
    """

    def __init__(self, say: Callable[[str], object], *, names_rank: bool = False) -> None:
        self._say, self._names_rank = say, names_rank
        self._lock = threading.RLock()
        self._told = self._told_in_step = 0
        self._whole: set[str] = set()
        """Invariants told whole."""
        self._same: dict[str, list[str]] = defaultdict(list)
        """By one of these, others of the same cause."""
        self._others: list[str] = []
        self._untold: Counter[str] = Counter()
        """By relation, how many were not even named."""

    def found(self, violation: Violation) -> None:
        with self._lock:
            if violation.group in self._whole:
                self._same[violation.group].append(violation.invariant)
            elif self._told >= MOST_IN_RUN:
                self._untold[violation.relation] += 1
            elif self._told_in_step >= MOST_IN_STEP:
                self._others.append(violation.invariant)
            else:
                self._tell(violation)

    def _tell(self, violation: Violation) -> None:
        self._told += 1
        self._told_in_step += 1
        self._whole.add(violation.invariant)
        self._say(in_words(violation, names_rank=self._names_rank))
        if self._told == MOST_IN_RUN:
            self._say(f"{MOST_IN_RUN} have been told; what else is found is counted until the end")

    def step_ended(self) -> None:
        """Name what else was found in this step."""
        if not (self._told_in_step or self._others or self._same):
            return
        with self._lock:
            for first, names in self._same.items():
                self._say(f"  [{first}] and {_more(names)} of the same cause: {_named(names)}")
            if self._others:
                self._say(f"  and {_more(self._others)} in the same step: {_named(self._others)}")
            self._others, self._told_in_step = [], 0
            self._same.clear()

    def ended(self) -> None:
        """The run is over: say how much was left untold."""
        self.step_ended()
        if self._untold:
            each = ", ".join(f"{count:,} {name}" for name, count in self._untold.most_common())
            self._say(f"{self._untold.total():,} more did not hold, told only in --report: {each}")


def in_words(violation: Violation, *, names_rank: bool = False) -> str:
    """What is said of a violation when it is found: three lines."""
    where = f" ({violation.where})" if violation.where else ""
    rank = f" on rank {violation.rank}" if violation.rank or names_rank else ""
    return (
        f"step {violation.step}{rank}: an invariant does not hold [{violation.invariant}]\n"
        f"  expected: {violation.expected}\n"
        f"  seen:     {violation.seen}{where}"
    )


def _more(names: Sequence[str]) -> str:
    return f"{len(names):,} more invariant{'' if len(names) == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown}, …" if len(names) > MOST_NAMED else shown
