"""Learn invariants from the events of healthy runs, in one pass."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import cast

from remora.check.broad import Broad
from remora.check.calls import Call
from remora.check.examples import FEWEST_EXAMPLES
from remora.check.handing_on import HandingOn
from remora.check.invariants import Header, Invariant, Invariants, Source
from remora.check.observation import Observation
from remora.check.ranks.meeting import Meeting
from remora.check.relations.contract import Learner
from remora.check.relations.registry import AnyClaim


class InvariantLearner(Broad):
    """Hands every event to the learner of each relation.

    Args:
        fewest: support; what held fewer times is not learned.
    """

    def __init__(self, *, fewest: int = FEWEST_EXAMPLES) -> None:
        super().__init__()
        self._fewest = fewest
        self._calls: Counter[str] = Counter()
        self._steps = 0
        self._sources: list[Source] = []
        self._handing_on = HandingOn()

    def join(self, meeting: Meeting) -> None:
        """What follows, until the run is over, is of one rank of a job of several."""
        for learner in self._learners:
            learner.join(meeting)

    def begin(self, call: Call) -> None:
        self._calls[call.function] += 1
        for learner in self._learners:
            learner.begin(call)

    def end(self, call: Call) -> None:
        self._handing_on.end(call)
        for learner in self._learners:
            learner.end(call)

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        for learner in self._learners:
            learner.changed(call, observations)

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        for learner in self._learners:
            learner.measured(call, numbers)

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        for learner in self._learners:
            learner.compare(step, contents)

    def step_ended(self, step: int) -> None:
        self._steps += 1
        for learner in self._learners:
            learner.step_ended(step)

    def run_ended(self, program: str, rank: int = 0) -> None:
        """One run is over, or one rank of it; the next may be of another program."""
        self._sources.append(self._source(program, rank))
        self._calls, self._steps = Counter(), 0
        for learner in self._learners:
            learner.run_ended()

    def _source(self, program: str, rank: int = 0) -> Source:
        calls = dict(sorted(self._calls.items()))
        return Source(program=program, steps=self._steps, calls=calls, rank=rank)

    def invariants(self, running: str | None = None) -> Invariants:
        """What has been learned so far.

        Args:
            running: the program of the run that is not over yet, to be named among the sources.
        """
        torch = sys.modules.get("torch")
        sources = self._sources if running is None else [*self._sources, self._source(running)]
        return Invariants(
            header=Header(torch=str(torch.__version__) if torch else None, sources=tuple(sources)),
            invariants=tuple(one for learner in self._learners for one in self._of(learner)),
        )

    def _of(self, learner: Learner) -> list[Invariant]:
        """In an order that is the same for the same runs."""
        to = self._handing_on.found()
        found = [
            Invariant(
                claim=cast(AnyClaim, claim), when=one.when, support=one.support, against=one.against
            )
            for one in learner.learned(self._fewest)
            if (claim := one.claim.handed_on(to)) is not None
        ]
        return sorted({one.name: one for one in found}.values(), key=Invariant.words)
