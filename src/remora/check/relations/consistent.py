"""Consistent: two variables have equal content whenever looked at, at each step's end.

Tied weights, a target network that follows at every step, buffers that ranks share.

Learned from: what stands for the content of every variable as each step ends. All variables first
seen at one step begin as one class, which is split whenever contents differ, so a step costs one
pass however many pairs there are. Left are classes of variables that were equal at every step;
told are those whose content did change meanwhile, since constants are equal by chance. The names
are part of the claim: it is about this program.

Checked: at each step's end, of the variables that some claim names and that exist. One tensor
under two names is equal without a look. Of large tensors a sample is compared at most steps, and
every element at every :data:`~remora.check.observe.variables.WHOLE_EVERY`-th: a difference in no
sampled place is found then.

``across`` is ``run``: both lie in one process. ``ranks``: ``one`` and ``other`` are the same name,
of a variable or of a module, and every rank has it equal (:mod:`remora.check.relations.replicas`).

TrainCheck's Consistency (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal

from remora.check.ranks.meeting import Meeting
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule
from remora.check.relations.replicas import Replicas, ReplicasLearner

CONTENT = "content"
RUN: Literal["run"] = "run"
RANKS: Literal["ranks"] = "ranks"


class Consistent(Claim, frozen=True, tag="consistent"):
    one: str
    other: str
    attribute: str = CONTENT
    across: Literal["run", "ranks"] = RUN

    def words(self) -> str:
        if self.across == RANKS:
            return f"{self.one} is the same on every rank at the end of a step"
        return f"{self.one} equals {self.other} at the end of a step"

    def functions(self) -> tuple[str, ...]:
        return ()

    def judged(self) -> str | None:
        return None


class ConsistentLearner(Learner):
    """A partition of the variables, refined at every step."""

    def __init__(self) -> None:
        self._class_of: dict[str, int] = {}
        self._classes = 0
        self._looked: dict[str, int] = defaultdict(int)
        self._changes: dict[str, int] = defaultdict(int)
        self._last: dict[str, Hashable] = {}
        self._replicas = ReplicasLearner()

    def join(self, meeting: Meeting | None) -> None:
        self._replicas.join(meeting)

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        self._replicas.compare(step, contents)
        new_class: dict[tuple[int | None, Hashable], int] = {}
        kept: set[int | None] = {None}
        for name, content in contents.items():
            old = self._class_of.get(name)
            number = new_class.get((old, content))
            if number is None:
                number = new_class[old, content] = self._number(old, kept)
            self._class_of[name] = number
            self._looked[name] += 1
            if name in self._last and self._last[name] != content:
                self._changes[name] += 1
            self._last[name] = content

    def _number(self, old: int | None, kept: set[int | None]) -> int:
        """The old number for the first part of a class: those not looked at stay with it."""
        if old is not None and old not in kept:
            kept.add(old)
            return old
        self._classes += 1
        return self._classes

    def run_ended(self) -> None:
        self._last.clear()
        self._replicas.join(None)

    def learned(self, fewest: int) -> Iterator[Learned]:
        members: dict[int, list[str]] = defaultdict(list)
        for name, number in self._class_of.items():
            if self._changes[name] >= fewest:
                members[number].append(name)
        for names in members.values():
            first, *others = names
            for other in others:
                support = min(self._looked[first], self._looked[other])
                yield Learned(Consistent(first, other), support=support)
        for name, support in self._replicas.learned(fewest):
            yield Learned(Consistent(name, name, across=RANKS), support=support)


class ConsistentMachine(Machine):
    """Compares the contents of the two variables of each rule as a step ends, and of the ranks."""

    claims = Consistent

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [rule for rule in rules if rule.claim.across == RUN]
        self._replicas = Replicas([rule for rule in rules if rule.claim.across == RANKS])

    def join(self, meeting: Meeting) -> None:
        self._replicas.join(meeting)

    def on_begin(self) -> dict[str, Any]:
        return {}

    def on_end(self) -> dict[str, Any]:
        return {}

    def compared(self) -> frozenset[str]:
        named = frozenset(n for rule in self._rules for n in (rule.claim.one, rule.claim.other))
        return named | self._replicas.compared()

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        self._replicas.compare(step, contents)
        for rule in self._rules:
            one, other = contents.get(rule.claim.one), contents.get(rule.claim.other)
            if one is None or other is None:
                continue
            rule.triggered += 1
            if one != other:
                rule.report(f"they differ after step {step}", None)
