"""Learn invariants from the events of healthy runs, in one pass."""

from __future__ import annotations

import sys
from collections import Counter
from typing import cast

from remora.check.calls import Call
from remora.check.examples import FEWEST_EXAMPLES
from remora.check.invariants import Header, Invariant, Invariants, Source
from remora.check.relations.contract import ALL, Learner
from remora.check.relations.registry import RELATIONS, AnyClaim
from remora.check.sink import Sink, Wanted


class InvariantLearner(Sink):
    """Hands every event to the learner of each relation.

    Args:
        fewest: support; what held fewer times is not learned.
    """

    def __init__(self, *, fewest: int = FEWEST_EXAMPLES) -> None:
        self._fewest = fewest
        self._learners: list[Learner] = [relation.learner() for relation in RELATIONS]
        self._calls: Counter[str] = Counter()
        self._steps = 0
        self._sources: list[Source] = []

    def wanted(self, function: str) -> Wanted:
        return Wanted(ALL, ALL.union(*(learner.asks(function) for learner in self._learners)))

    def begin(self, call: Call) -> None:
        self._calls[call.function] += 1
        for learner in self._learners:
            learner.begin(call)

    def end(self, call: Call) -> None:
        for learner in self._learners:
            learner.end(call)

    def step_ended(self, step: int) -> None:
        self._steps += 1
        for learner in self._learners:
            learner.step_ended(step)

    def run_ended(self, program: str) -> None:
        """One run is over; the next may be of another program."""
        self._sources.append(
            Source(program=program, steps=self._steps, calls=dict(sorted(self._calls.items())))
        )
        self._calls, self._steps = Counter(), 0
        for learner in self._learners:
            learner.run_ended()

    def invariants(self) -> Invariants:
        """What has been learned so far."""
        torch = sys.modules.get("torch")
        return Invariants(
            header=Header(
                torch=str(torch.__version__) if torch else None, sources=tuple(self._sources)
            ),
            invariants=tuple(
                Invariant(
                    claim=cast(AnyClaim, one.claim),
                    when=one.when,
                    support=one.support,
                    against=one.against,
                )
                for learner in self._learners
                for one in learner.learned(self._fewest)
            ),
        )
