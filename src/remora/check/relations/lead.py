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
from remora.check.relations.contract import Learned, Machine, Rule
from remora.check.relations.order import (
    Last,
    Order,
    OrderLearner,
    does_as_well_as,
    shows_use_of,
)


class Lead(Order, frozen=True, tag="lead"):
    """``then`` is required after ``first``."""

    def words(self) -> str:
        needed = self.required_words()
        return f"{self.first} is followed by {needed} before it is called again{self.once_words()}"

    def missing(self) -> str:
        return self.then


class LeadLearner(OrderLearner):
    def meet(self, call: Call) -> None:
        since = self._recency.meet(call)
        if since.previous is not None:
            self._pairs.add(since.previous, since.functions)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for first, one in self._pairs.kept(fewest):
            instead, once = does_as_well_as(one.thing), shows_use_of(one.thing)
            claim = Lead(first, one.thing, instead=instead, once=once)
            yield Learned(claim, one.when, one.support, one.against)


class LeadMachine(Machine):
    """Remembers, for each function and thread, its last call."""

    claims = Lead
    remembers = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._last = Last(rule.claim for rule in rules)
        self._calls: dict[str, dict[int, Call]] = {name: {} for name in self._last.order}
        self._by_first: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_first[rule.claim.first].append(rule)

    def missed(self) -> None:
        """The next call of A is judged as the first one of the run: not at all."""
        self._last.forget()
        for calls in self._calls.values():
            calls.clear()

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._follower(name) for name in self._last.order}

    def _follower(self, name: str) -> Callable[[Call], None]:
        order, excuses = self._last.order, self._last.excuses
        own, calls = order[name], self._calls[name]
        followed_by = [(rule, order[rule.claim.then]) for rule in self._by_first[name]]

        def begin(call: Call) -> None:
            thread = call.thread
            previous = calls.get(thread)
            own[thread], calls[thread] = call.order, call
            if previous is None:
                return
            for rule, last in followed_by:
                if rule.when is not None and not rule.concerns(previous):
                    continue
                if last.get(thread, -1) <= previous.order:
                    if excuses(rule.claim, previous):
                        continue
                    required = rule.claim.required_words()
                    rule.report(f"called again without {required} in between", call)
                rule.triggered += 1

        return begin
