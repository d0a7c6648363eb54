"""Cover: a function is called only after another was, each time anew.

Learned from: at every call of B, in its thread, what was called since the last call of B, or
since the beginning for the first. A is needed if it is always among these.

Checked: at every call of B that meets the condition: was A called since the last one?

TrainCheck's FunctionCover (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from remora.check.calls import Call
from remora.check.relations.contract import Claim, Learned, Machine, Rule
from remora.check.relations.order import OrderLearner


class Cover(Claim, frozen=True, tag="cover"):
    first: str
    then: str

    def words(self) -> str:
        return f"{self.then} is called only after {self.first}, each time anew"

    def functions(self) -> tuple[str, ...]:
        return (self.then, self.first)

    def missing(self) -> str | None:
        return self.first


class CoverLearner(OrderLearner):
    def begin(self, call: Call) -> None:
        self._pairs.meet(call)
        self._pairs.add(call, self._recency.meet(call).functions)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for then, one in self._pairs.kept(fewest):
            yield Learned(Cover(one.thing, then), one.when, one.support, one.against)


class CoverMachine(Machine):
    """Remembers, for each function and thread, the order of its last call."""

    claims = Cover
    remembers = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._last: dict[str, dict[int, int]] = {
            name: {} for rule in rules for name in rule.claim.functions()
        }
        self._by_then: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_then[rule.claim.then].append(rule)
        self._has_missed = False

    def missed(self) -> None:
        """What the next call of B would need may lie in what went by: it is not judged."""
        self._has_missed = True
        for last in self._last.values():
            last.clear()

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._follower(name) for name in self._last}

    def _follower(self, name: str) -> Callable[[Call], None]:
        own = self._last[name]
        needed = [(rule, self._last[rule.claim.first]) for rule in self._by_then[name]]

        def begin(call: Call) -> None:
            thread = call.thread
            previous = own.get(thread, -1)
            if previous < 0 and self._has_missed:
                own[thread] = call.order
                return
            for rule, last in needed:
                if rule.when is not None and not rule.concerns(call):
                    continue
                rule.triggered += 1
                if last.get(thread, -1) <= previous:
                    since = f"since the last call of {name}" if previous >= 0 else "before it"
                    rule.report(f"no call of {rule.claim.first} {since}", call)
            own[thread] = call.order

        return begin
