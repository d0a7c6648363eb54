"""A sink that wants to see whatever is learned from."""

from __future__ import annotations

from remora.check.observation import Look
from remora.check.relations.contract import ALL, Learner
from remora.check.relations.registry import RELATIONS
from remora.check.sink import Sink, Wanted


class Broad(Sink):
    """Asks for what the learner of each relation asks for."""

    def __init__(self) -> None:
        self._learners: list[Learner] = [relation.learner() for relation in RELATIONS]

    def wanted(self, function: str) -> Wanted:
        return Wanted(ALL, ALL.union(*(learner.asks(function) for learner in self._learners)))

    def looks(self, function: str) -> tuple[Look, ...]:
        return tuple(look for learner in self._learners for look in learner.looks(function))

    def measures(self, function: str) -> frozenset[str]:
        return frozenset().union(*(learner.measures(function) for learner in self._learners))

    def compared(self) -> frozenset[str]:
        return ALL
