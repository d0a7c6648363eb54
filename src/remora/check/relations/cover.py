"""Cover: a function is called only after another was, each time anew.

Learned from: at every call of B, in its thread, what was called since the last call of B, or
since the beginning for the first. A is needed if it is always among these, and was before the
first call of B in every run: what only comes round again is told by lead. To clear gradients
nothing has to be done before.

Checked: at every call of B that meets the condition: was A called since the last one?

``eval()`` needs no training anew, but it needs some: a model is evaluated once it has been trained
or loaded. So for that the cover is learned without ``anew``, which asks for a call at any time.

TrainCheck's FunctionCover (OSDI'25, table 2), which is always anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.relations.contract import Learned, Machine, Rule
from remora.check.relations.order import (
    INSTEAD,
    ZERO_GRAD,
    Last,
    Order,
    OrderLearner,
    does_as_well_as,
    shows_use_of,
)

CLEARING = frozenset({ZERO_GRAD, *INSTEAD[ZERO_GRAD]})
EVAL = "torch.nn.Module.eval"
LOADED = ("torch.nn.Module.load_state_dict",)
"""What makes a model ready without training."""


class Cover(Order, frozen=True, tag="cover"):
    """``first`` is required when ``then`` is called."""

    anew: bool = True
    """Since the last call of ``then``, not just at any time."""

    def words(self) -> str:
        needed = self.required_words()
        anew = ", each time anew" if self.anew else ""
        return f"{self.then} is called only after {needed}{anew}{self.once_words()}"

    def missing(self) -> str:
        return self.first


class CoverLearner(OrderLearner):
    def __init__(self) -> None:
        super().__init__()
        self._met: set[tuple[int, str]] = set()
        self._trained, self._untrained = 0, 0
        """Calls of eval with and without any step before."""

    def begin(self, call: Call) -> None:
        super().begin(call)
        self._met.add((call.thread, call.function))
        if call.function == EVAL:
            ready = any((call.thread, one) in self._met for one in (OPTIMIZER_STEP, *LOADED))
            self._trained += ready
            self._untrained += not ready

    def run_ended(self) -> None:
        super().run_ended()
        self._met.clear()

    def meet(self, call: Call) -> None:
        since = self._recency.meet(call)
        self._pairs.add(call, since.functions, is_first=since.previous is None)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for then, one in self._pairs.kept(fewest):
            if then not in CLEARING and self._pairs.before_first(then, one.thing):
                instead, once = does_as_well_as(one.thing), shows_use_of(one.thing)
                claim = Cover(one.thing, then, instead=instead, once=once)
                yield Learned(claim, one.when, one.support, one.against)
        if self._trained >= fewest and not self._untrained:
            once = shows_use_of(OPTIMIZER_STEP)
            claim = Cover(OPTIMIZER_STEP, EVAL, instead=LOADED, once=once, anew=False)
            yield Learned(claim, support=self._trained)


class CoverMachine(Machine):
    """Remembers, for each function and thread, the order of its last call."""

    claims = Cover
    remembers = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._last = Last(rule.claim for rule in rules)
        self._by_then: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_then[rule.claim.then].append(rule)
        self._has_missed = False

    def missed(self) -> None:
        """What the next call of B would need may lie in what went by: it is not judged."""
        self._has_missed = True
        self._last.forget()

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._follower(name) for name in self._last.order}

    def _follower(self, name: str) -> Callable[[Call], None]:
        order, excuses = self._last.order, self._last.excuses
        own = order[name]
        needed = [(rule, order[rule.claim.first]) for rule in self._by_then[name]]

        def begin(call: Call) -> None:
            thread = call.thread
            previous = own.get(thread, -1)
            if previous < 0 and self._has_missed:
                own[thread] = call.order
                return
            for rule, last in needed:
                if rule.when is not None and not rule.concerns(call):
                    continue
                if self._has_missed and not rule.claim.anew:
                    continue
                since = previous if rule.claim.anew else -1
                if last.get(thread, -1) <= since:
                    if excuses(rule.claim, call, since):
                        continue
                    rule.report(_missing(rule.claim, since), call)
                rule.triggered += 1
            own[thread] = call.order

        return begin


def _missing(claim: Cover, since: int) -> str:
    when = f"since the last call of {claim.then}" if since >= 0 else "before it"
    return f"no call of {claim.required_words()} {when}"
