"""What lead and cover share: which functions have an order, and how it is learned and excused.

An order means something where functions work on the same thing. Those in :data:`STEP` all make,
clear, clip or use gradients, and a training that calls one of them out of its turn is wrong. Layers
are called in the order of the model and initialisers in that of its construction, which is each
program's own. ``train()`` and ``eval()`` set what stays, and need not be called anew. A forward is
called for much else than a step; a backward cannot do without one, and torch says so.

Kept are pairs of these that are called side by side, neither ever within the other. A step that is
given a closure calls what it needs itself: it, and what it calls, have no order with each other.

TrainCheck learns the order of all functions (OSDI'25, table 2), and of those it learned from one
program a third fail in the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from remora.check.calls import CLOSURE, OPTIMIZER_STEP, Call
from remora.check.examples import Found, Occasions
from remora.check.relations.contract import Claim, Learner
from remora.check.relations.recency import Nesting, Recency

ZERO_GRAD = "torch.optim.Optimizer.zero_grad"
STEP = (
    OPTIMIZER_STEP,
    ZERO_GRAD,
    "torch.nn.Module.zero_grad",
    "torch.Tensor.backward",
    "torch.optim.lr_scheduler.",
    "torch.nn.utils.clip_grad",
    "torch.amp.",
    "torch.distributed.",
)
"""Functions (or the beginnings of their names) that a step of training is made of."""
MOST_REPEATS = 4
"""A function called more often than this in a row is a loop of its own, and led by nothing."""
INSTEAD = {ZERO_GRAD: ("torch.nn.Module.zero_grad",)}
"""By function, those that do as well: some programs clear their gradients through the model."""
ONCE = {OPTIMIZER_STEP: ("torch.optim.Optimizer.add_param_group", ZERO_GRAD, OPTIMIZER_STEP)}
"""By function, what shows that a program has use for it: the first is called by every optimizer
that is made. A program that writes out its updates makes none."""
_STANDS_FOR = {other: name for name, others in INSTEAD.items() for other in others}


class Order(Claim, frozen=True, omit_defaults=True):
    """``first`` and ``then`` take turns. One of them is required when the other is called."""

    first: str
    then: str
    instead: tuple[str, ...] = ()
    """Functions that do as well as the required one."""
    once: tuple[str, ...] = ()
    """Judged only in a program that has called one of these, if there are any."""

    def missing(self) -> str:
        """Which of the two is required."""
        raise NotImplementedError

    def functions(self) -> tuple[str, ...]:
        judged = self.first if self.missing() == self.then else self.then
        return (*dict.fromkeys((judged, self.missing(), *self.instead, *self.once)),)

    def required_words(self) -> str:
        return " or ".join((self.missing(), *self.instead))

    def once_words(self) -> str:
        return f", once {self.once[0]} was called" if self.once else ""


def does_as_well_as(required: str) -> tuple[str, ...]:
    """The functions that stand in for a required one."""
    return INSTEAD.get(required, ())


def shows_use_of(required: str) -> tuple[str, ...]:
    """The functions of which one is called where there is use for a required one."""
    return ONCE.get(required, ())


class Pairs:
    """For every function, what lay between its calls."""

    def __init__(self) -> None:
        self._nesting = Nesting()
        self._occasions: dict[str, Occasions[str]] = defaultdict(Occasions)
        self._repeats: dict[tuple[int, str], int] = {}
        self._loops: set[str] = set()
        self._before_first: dict[str, frozenset[str]] = {}

    def before_first(self, name: str, other: str) -> bool:
        """Whether ``other`` was called before the first call of ``name`` in every run."""
        return other in self._before_first.get(name, ())

    def meet(self, call: Call) -> None:
        if not is_within(call, (OPTIMIZER_STEP,)):
            self._nesting.meet(call)

    def add(self, subject: Call, between: list[str], *, is_first: bool = False) -> None:
        """``between`` were called on this occasion, the first of ``subject`` in its run or not.

        So has been, as far as that goes, what ``subject`` lies in.
        """
        self._count_repeats(subject, bool(between))
        if CLOSURE not in subject.inputs:
            around = (one.function for one in subject.ancestors())
            done = frozenset(_STANDS_FOR.get(name, name) for name in (*between, *around))
            self._occasions[subject.function].add(subject.context, done)
            if is_first:
                known = self._before_first.setdefault(subject.function, done)
                self._before_first[subject.function] = known & done

    def _count_repeats(self, call: Call, interrupted: bool) -> None:
        key = (call.thread, call.function)
        self._repeats[key] = 1 if interrupted else self._repeats.get(key, 1) + 1
        if self._repeats[key] > MOST_REPEATS:
            self._loops.add(call.function)

    def kept(self, fewest: int) -> Iterator[tuple[str, Found[str]]]:
        """(function, what is always between its calls)."""
        for name, occasions in self._occasions.items():
            if name not in self._loops:
                yield from ((name, one) for one in occasions.found(fewest) if self._go(name, one))

    def _go(self, name: str, one: Found[str]) -> bool:
        """Whether ``name`` and what was found go together by more than chance."""
        names = (one.thing, *does_as_well_as(one.thing))
        return one.thing not in self._loops and any(
            self._nesting.side_by_side(name, other) for other in names
        )


class OrderLearner(Learner):
    """Follows the order of calls; its subclasses say what an occasion is."""

    def __init__(self) -> None:
        self._recency, self._pairs = Recency(), Pairs()

    def begin(self, call: Call) -> None:
        if is_of_a_step(call.function):
            self._pairs.meet(call)
            self.meet(call)

    def meet(self, call: Call) -> None:
        """A function that a step is made of is called."""
        raise NotImplementedError

    def run_ended(self) -> None:
        self._recency.forget()


def is_of_a_step(name: str) -> bool:
    return name.startswith(STEP)


def is_within(call: Call, functions: tuple[str, ...]) -> bool:
    """Whether a call of one of ``functions`` encloses ``call``."""
    around = call.parent
    while around is not None:
        if around.function in functions:
            return True
        around = around.parent
    return False


class Last:
    """The order of each function's last call, by thread: what both machines keep."""

    def __init__(self, claims: Iterable[Order]) -> None:
        self.order: dict[str, dict[int, int]] = {
            name: {} for claim in claims for name in claim.functions()
        }
        self._ever: set[str] = set()
        """Those that were called before something went by unseen."""

    def forget(self) -> None:
        """Calls went by unseen."""
        self._ever |= {name for name, last in self.order.items() if last}
        for last in self.order.values():
            last.clear()

    def excuses(self, claim: Order, call: Call, since: int | None = None) -> bool:
        """Whether ``call`` needs no call of the required function, where there was none.

        Args:
            since: the order after which one would have been missed; that of ``call`` if None.
        """
        since = call.order if since is None else since
        if any(self.order[name].get(call.thread, -1) > since for name in claim.instead):
            return True
        if claim.once and not any(self.order[name] or name in self._ever for name in claim.once):
            return True
        return CLOSURE in call.inputs or is_within(call, (claim.missing(),))
