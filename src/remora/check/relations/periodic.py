"""Periodic: a function is called once every so many calls of another.

An optimizer that steps once every four backward passes; a scheduler that steps once every hundred
steps of the optimizer, or once for each pass over the data. Where it is once for each call, that
is what cover and lead say.

Learned from: how many calls of the one lie between two of the other (:data:`PAIRS`). Where it is
always ``every``, the claim is ``exact``; where it is less now and then, as at the end of an epoch,
it says that it is never more. Steps are not counted between what comes once an epoch, since how
many there are changes with the batch size: an epoch is told by a data loader that begins anew, and
by a model that is evaluated.

How many there are is this program's choice. Therefore the condition, which is about the optimizer's
step, names how many elements its parameters have.

Checked: as the call comes that is one too many, the step in which the other was left out; if it is
exact, at a call of the other that comes early. What comes before the first is not judged, nor
before a step of an optimizer that meets the condition.

Not among TrainCheck's relations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.conditions import Condition, Constant
from remora.check.measures import ELEMENTS, SCHEDULER_STEP
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule

BACKWARD, LOADER = "torch.Tensor.backward", "torch.utils.data.DataLoader.__iter__"
EPOCH = frozenset({LOADER, "torch.nn.Module.eval"})
"""What tells that an epoch is over."""


class _Pair(NamedTuple):
    function: str
    of: str
    least: int


PAIRS = (
    _Pair(OPTIMIZER_STEP, BACKWARD, 2),
    _Pair(SCHEDULER_STEP, OPTIMIZER_STEP, 2),
    _Pair(SCHEDULER_STEP, LOADER, 1),
)
"""Which function comes once every so many calls of which other, and how many are a period."""
_NAMES = frozenset(name for pair in PAIRS for name in pair[:2])
FEWEST_PERIODS = 4
LEAST_SHARE = 0.75
"""Of the periods, so many have to be whole."""


class Periodic(Claim, frozen=True, tag="periodic", omit_defaults=True):
    function: str
    every: int
    of: str
    exact: bool = True

    def words(self) -> str:
        often = "" if self.exact else "at least "
        calls = f"{self.every} calls" if self.every > 1 else "call"
        return f"{self.function} is called {often}once every {calls} of {self.of}"

    def functions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.function, self.of, OPTIMIZER_STEP)))

    def judged(self) -> str:
        return OPTIMIZER_STEP


@dataclass
class _Periods:
    """Of one pair, for the optimizers of one size."""

    begun: bool = False
    count: int = 0
    """Calls of the other since the last one."""
    epoch: bool = False
    """Whether an epoch has ended since."""
    lengths: Counter[int] = field(default_factory=Counter)
    within_an_epoch: int = 0
    """Periods in which none had."""
    left: int = 0
    """The most calls of the other at the end of a run, after the last one."""

    def run_ended(self) -> None:
        self.left = self.open
        self.begun = False

    @property
    def open(self) -> int:
        return max(self.left, self.count if self.begun else 0)

    def call(self) -> None:
        if self.begun:
            self.lengths[self.count] += 1
            self.within_an_epoch += not self.epoch
        self.count, self.epoch, self.begun = 0, False, True


class PeriodicLearner(Learner):
    def __init__(self) -> None:
        self._periods: dict[tuple[_Pair, int | None], _Periods] = {}

    def begin(self, call: Call) -> None:
        if call.function in _NAMES:
            if call.function == OPTIMIZER_STEP:
                for pair in PAIRS:
                    self._periods.setdefault((pair, call.inputs.get(ELEMENTS)), _Periods())
            for (pair, elements), one in self._periods.items():
                if _is_of(call, elements):
                    one.count += pair.of == call.function
                    if pair.function == call.function:
                        one.call()
        if call.function in EPOCH:
            for one in self._periods.values():
                one.epoch = True

    def run_ended(self) -> None:
        for one in self._periods.values():
            one.run_ended()

    def learned(self, fewest: int) -> Iterator[Learned]:
        for (pair, elements), one in self._periods.items():
            every = max(one.lengths, default=0)
            whole, support = one.lengths[every], one.lengths.total()
            enough = whole >= max(fewest, FEWEST_PERIODS) and whole >= LEAST_SHARE * support
            if not enough or every < max(pair.least, one.open):
                continue
            if one.within_an_epoch or pair.of == LOADER:
                claim = Periodic(pair.function, every, pair.of, exact=whole == support)
                yield Learned(claim, _condition(elements), support=support)


def _is_of(call: Call, elements: int | None) -> bool:
    """A step of an optimizer of another size is not of it; every other call is."""
    return call.function != OPTIMIZER_STEP or call.inputs.get(ELEMENTS) == elements


def _condition(elements: int | None) -> Condition:
    clauses = (Constant(ELEMENTS, (elements,)),) if elements is not None else ()
    return Condition(any_of=(clauses,))


# ---------------------------------------------------------------- checking


class PeriodicMachine(Machine):
    claims = Periodic
    remembers = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._counts = [_Count(rule) for rule in rules]

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        counts: dict[str, list[_Count]] = defaultdict(list)
        for one in self._counts:
            for name in one.claim.functions():
                counts[name].append(one)
        return {name: _meeting(each) for name, each in counts.items()}

    def missed(self) -> None:
        for one in self._counts:
            one.begin_anew()


def _meeting(counts: Sequence[_Count]) -> Callable[[Call], None]:
    def begin(call: Call) -> None:
        for one in counts:
            one.meet(call)

    return begin


class _Count:
    """One rule: how many calls of the one there were since the other."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self.claim = rule, rule.claim
        self._known = rule.when is None
        """Whether an optimizer that the condition is about has stepped."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Calls were missed: how many is not known."""
        self._begun, self._count = False, 0

    def meet(self, call: Call) -> None:
        if call.function == OPTIMIZER_STEP:
            if not self._rule.concerns(call):
                return
            self._known = True
        if self._known:
            if call.function == self.claim.of:
                self._counted(call)
            if call.function == self.claim.function:
                self._called(call)

    def _counted(self, call: Call) -> None:
        self._count += 1
        if self._begun and self._count == self.claim.every + 1:
            seen = f"{self._count} calls of {self.claim.of} without it"
            self._rule.judge(False, call, lambda: seen)

    def _called(self, call: Call) -> None:
        if self._begun and self._count <= self.claim.every:
            early = self.claim.exact and self._count < self.claim.every
            seen = f"it comes after {self._count} already"
            self._rule.judge(not early, call, lambda: seen)
        self._begun, self._count = True, 0
