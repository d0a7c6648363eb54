"""What relations about numbers share: each number is judged alone, as it is measured."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from remora.check.calls import Call
from remora.check.relations.contract import Machine, Rule


class EachNumber(Machine):
    """Judges, at every call that its claims are about, the numbers that are there."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_function: dict[str, dict[str, list[_Judged]]] = defaultdict(dict)
        """By function and condition: one that many rules share is decided once."""
        for rule in rules:
            judged = _Judged(rule, self.number(rule.claim), *self.bounds(rule.claim))
            of_function = self._by_function[rule.claim.function]
            of_function.setdefault(repr(rule.condition), []).append(judged)

    @staticmethod
    @abstractmethod
    def number(claim: Any) -> str:
        """Which number ``claim`` is about."""

    @staticmethod
    @abstractmethod
    def seen(value: float) -> str:
        """What is told of one that the claim does not hold of."""

    @staticmethod
    @abstractmethod
    def bounds(claim: Any) -> tuple[float, float]:
        """``claim`` holds of the numbers from the first to the second, and of no NaN."""

    def on_begin(self) -> dict[str, Any]:
        return {}

    def measures(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(one.number for judged in by_condition.values() for one in judged)
            for name, by_condition in self._by_function.items()
        }

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        for judged in self._by_function[call.function].values():
            if not judged[0].rule.concerns(call):
                continue
            for rule, number, low, high in judged:
                value = numbers.get(number)
                if value is not None:
                    rule.triggered += 1
                    if not low <= value <= high:
                        rule.report(self.seen(value), call)


class _Judged(NamedTuple):
    rule: Rule
    number: str
    low: float
    high: float
