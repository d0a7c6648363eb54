"""Lead: after a function, another is called before the first comes again.

Learned from: at every call of A but the first, in its thread, what was called since the one
before it. B follows A if it is always among these. The condition is about the earlier A.

Checked: at every call of A: if the one before it met the condition, was B called since? What
follows the last call of a run is not judged.

TrainCheck's FunctionLead (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from remora.check.calls import Call
from remora.check.relations.contract import Claim, Learned, Machine, Rule
from remora.check.relations.order import OrderLearner


class Lead(Claim, frozen=True, tag="lead"):
    first: str
    then: str

    def words(self) -> str:
        return f"{self.first} is followed by {self.then} before it is called again"

    def functions(self) -> tuple[str, ...]:
        return (self.first, self.then)

    def missing(self) -> str | None:
        return self.then


class LeadLearner(OrderLearner):
    def begin(self, call: Call) -> None:
        self._pairs.meet(call)
        since = self._recency.meet(call)
        if since.previous is not None:
            self._pairs.add(since.previous, since.functions[::-1])

    def learned(self, fewest: int) -> Iterator[Learned]:
        for first, one in self._pairs.kept(fewest):
            yield Learned(Lead(first, one.thing), one.when, one.support, one.against)


class LeadMachine(Machine):
    """Remembers, for each function and thread, its last call."""

    claims = Lead
    remembers = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._last: dict[str, dict[int, Call]] = {
            name: {} for rule in rules for name in rule.claim.functions()
        }
        self._by_first: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_first[rule.claim.first].append(rule)

    def missed(self) -> None:
        """The next call of A is judged as the first one of the run: not at all."""
        for last in self._last.values():
            last.clear()

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._follower(name) for name in self._last}

    def _follower(self, name: str) -> Callable[[Call], None]:
        own = self._last[name]
        followed_by = [(rule, self._last[rule.claim.then]) for rule in self._by_first[name]]

        def begin(call: Call) -> None:
            thread = call.thread
            previous = own.get(thread)
            own[thread] = call
            if previous is None:
                return
            for rule, last in followed_by:
                if rule.when is not None and not rule.concerns(previous):
                    continue
                rule.triggered += 1
                latest = last.get(thread)
                if latest is None or latest.order <= previous.order:
                    rule.report(f"called again without {rule.claim.then} in between", call)

        return begin
