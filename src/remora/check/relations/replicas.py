"""Replicas: variables that are equal on every rank, at each step's end.

What :mod:`remora.check.relations.consistent` says ``across`` ranks: parameters that ranks average
the gradients of, what the optimizer keeps for them, buffers that are sent around.

Learned from: what stands for the content of each variable as a step ends, of each rank beside the
first. Told are the largest modules all of whose variables every rank had and had equal at every
step they were seen, so a tensor-parallel layer, whose parts differ, is in none. What never changed
is told too: frozen weights that arrived in part are not the same on every rank.

Checked: at each step's end each rank compares with the one that came first to it
(:mod:`remora.check.ranks.meeting`), and the one that differs, or that finds the first to differ,
says so. A variable that only one of them has is not judged. Of large tensors a sample is compared
at most steps, as within a rank.

TrainCheck's Consistency (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from remora.check.observation import is_below
from remora.check.ranks.contents import Compared, RankContents, number_of
from remora.check.ranks.meeting import Meeting
from remora.check.relations.contract import Rule
from remora.check.relations.modules import largest_modules

MOST_NAMED = 3


class ReplicasLearner:
    """Which variables never differed from the first rank's."""

    def __init__(self) -> None:
        self._ranks: RankContents | None = None
        self._met: Counter[tuple[str, ...]] = Counter()
        """By names that were compared, how often."""
        self._apart: set[str] = set()

    def join(self, meeting: Meeting | None) -> None:
        """What follows is of one rank; None: of a job of a single one."""
        self._ranks = RankContents(meeting) if meeting is not None else None

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        if self._ranks is None:
            return
        names = sorted(contents)
        seen = self._ranks.compare(step, names, [number_of(contents[name]) for name in names])
        if seen is not None:
            self._met[tuple(seen.shared)] += 1
            self._apart.update(seen.apart, seen.others)

    def learned(self, fewest: int) -> Iterator[tuple[str, int]]:
        """Modules, and how often the least seen variable of each was compared."""
        looked: Counter[str] = Counter()
        for names, times in self._met.items():
            for name in names:
                looked[name] += times
        everything = [*looked, *(self._apart - looked.keys())]
        held = {name for name in looked if name not in self._apart and looked[name] >= fewest}
        for module, below in largest_modules(everything, held):
            yield module, min(looked[name] for name in below)


class Replicas:
    """Checks the rules that are about ranks."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._modules = frozenset(rule.claim.one for rule in rules)
        self._ranks: RankContents | None = None
        self._there: Sequence[str] = ()
        self._concerned: list[str] = []
        self._below: dict[tuple[str, ...], list[tuple[Rule, list[str]]]] = {}

    def join(self, meeting: Meeting) -> None:
        self._ranks = RankContents(meeting) if self._rules else None

    def compared(self) -> frozenset[str]:
        return self._modules if self._ranks is not None else frozenset()

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        if self._ranks is None:
            return
        names = self._names(list(contents))
        if not names:
            return
        seen = self._ranks.compare(step, names, [_number(contents[name]) for name in names])
        if seen is not None:
            self._judge(step, seen)

    def _names(self, there: Sequence[str]) -> list[str]:
        """Those of the variables that some rule is about, in an order that all ranks have."""
        if there != self._there:
            self._there = there
            self._concerned = sorted(
                name for name in there if any(is_below(name, one) for one in self._modules)
            )
        return self._concerned

    def _judge(self, step: int, seen: Compared) -> None:
        for rule, names in self._by_rule(tuple(seen.shared)):
            rule.triggered += 1
            if seen.apart and (apart := [name for name in names if name in seen.apart]):
                rule.report(f"{_some(apart)} from rank {seen.rank}'s after step {step}", None)

    def _by_rule(self, names: tuple[str, ...]) -> list[tuple[Rule, list[str]]]:
        found = self._below.get(names)
        if found is None:
            by_rule = [
                (rule, [name for name in names if is_below(name, rule.claim.one)])
                for rule in self._rules
            ]
            found = self._below[names] = [one for one in by_rule if one[1]]
        return found


def _number(content: Any) -> int:
    """As :func:`number_of`, faster for what is seen live at most steps: a dtype and a digest."""
    if type(content) is tuple and len(content) == 2 and type(content[1]) is int:
        return int(content[1])
    return number_of(content)


def _some(names: Sequence[str]) -> str:
    """The first few, and that they differ."""
    more = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{shown} {'differs' if len(names) == 1 else 'differ'}"
