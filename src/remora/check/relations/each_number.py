"""What relations about numbers share: each number is judged alone, as it is measured."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from remora.check.calls import Call
from remora.check.relations.contract import Machine, Rule


class EachNumber(Machine):
    """Judges, at every call that its claims are about, the numbers that are there."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_function: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_function[rule.claim.function].append(rule)

    @staticmethod
    @abstractmethod
    def number(claim: Any) -> str:
        """Which number ``claim`` is about."""

    @staticmethod
    @abstractmethod
    def seen(value: float) -> str:
        """What is told of one that the claim does not hold of."""

    def on_begin(self) -> dict[str, Any]:
        return {}

    def measures(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(self.number(rule.claim) for rule in rules)
            for name, rules in self._by_function.items()
        }

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        for rule in self._by_function[call.function]:
            value = numbers.get(self.number(rule.claim))
            if value is not None and rule.concerns(call):
                rule.judge(rule.claim.holds(value), call, partial(self.seen, value))
