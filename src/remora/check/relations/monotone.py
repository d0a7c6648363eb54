"""Monotone: a counter only grows, by the same amount at every call if that is how it was.

The counters are the steps an optimizer's state counts, the batches that batch norms have kept
statistics of, the epochs of a scheduler (:mod:`remora.check.measures`). Their growth is told since
the last call on the same thing, so a counter that is reset in between, or a step whose state was
lost, shows at the next call.

Learned from: how much the counter grew at each call. An amount by which it grew every time, or
whenever a condition on the context held, is claimed; where there is none, that it never lessens.

Checked: at every call that meets the condition, on a thing that has the counter.

Not among TrainCheck's relations.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from remora.check.calls import Call
from remora.check.examples import Occasions
from remora.check.measures import COUNTERS
from remora.check.relations.contract import ALL, Claim, Learned, Learner
from remora.check.relations.each_number import EachNumber

MOST_AMOUNTS = 8
"""What grows by more amounts than this grows by no rule."""


class Monotone(Claim, frozen=True, tag="monotone", omit_defaults=True):
    function: str
    counter: str
    by: float | None = None
    """None where it may grow by any amount, or stay."""

    def words(self) -> str:
        if self.by is None:
            return f"{self.function} never lessens {self.counter}"
        return f"{self.function} adds {self.by:g} to {self.counter}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)


class MonotoneLearner(Learner):
    def __init__(self) -> None:
        self._growth: dict[str, Occasions[float]] = defaultdict(Occasions)
        self._lessened: set[str] = set()

    def measures(self, function: str) -> frozenset[str]:
        return ALL if function in COUNTERS else frozenset()

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        growth = numbers.get(COUNTERS.get(call.function, ""))
        if growth is None:
            return
        occasions = self._growth[call.function]
        tell = growth in occasions.present or len(occasions.present) < MOST_AMOUNTS
        occasions.add(call.context, {growth} if tell else set())
        if not growth >= 0:
            self._lessened.add(call.function)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, occasions in self._growth.items():
            found = list(occasions.found(fewest))
            for one in found:
                claim = Monotone(name, COUNTERS[name], one.thing)
                yield Learned(claim, one.when, one.support, one.against)
            grew = any(amount != 0 for amount in occasions.present)
            if not found and grew and name not in self._lessened and occasions.count >= fewest:
                yield Learned(Monotone(name, COUNTERS[name]), support=occasions.count)


class MonotoneMachine(EachNumber):
    claims = Monotone

    @staticmethod
    def number(claim: Monotone) -> str:
        return claim.counter

    @staticmethod
    def bounds(claim: Monotone) -> tuple[float, float]:
        return (0, math.inf) if claim.by is None else (claim.by, claim.by)

    @staticmethod
    def seen(value: float) -> str:
        return f"it grew by {value:g}"
