"""What lead and cover share: how pairs are counted, and which of them are worth keeping.

In a training loop nearly every function is called between two calls of nearly every other. Kept
are pairs called side by side, neither ever within the other, of which one is the nearest to the
other that is there every time; and all pairs of the functions that make up a step of training
(:data:`STEP`), since those are the ones that go missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP, Call
from remora.check.examples import Found, Occasions
from remora.check.relations.contract import Learner
from remora.check.relations.recency import Nesting, Recency

STEP = (
    MODEL_FORWARD,
    OPTIMIZER_STEP,
    "torch.optim.Optimizer.zero_grad",
    "torch.nn.Module.zero_grad",
    "torch.Tensor.backward",
    "torch.optim.lr_scheduler.",
    "torch.nn.utils.clip_grad",
    "torch.amp.",
    "torch.distributed.",
    "torch.nn.Module.train",
    "torch.nn.Module.eval",
)
"""Functions (or the beginnings of their names) that a step of training is made of."""
MOST_REPEATS = 4
"""A function called more often than this in a row is a loop of its own, and led by nothing."""


class Pairs:
    """For every function, what lay between its calls."""

    def __init__(self) -> None:
        self.nesting = Nesting()
        self._occasions: dict[str, Occasions[str]] = defaultdict(Occasions)
        self._nearness: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._repeats: dict[tuple[int, str], int] = {}
        self._loops: set[str] = set()

    def meet(self, call: Call) -> None:
        self.nesting.meet(call)

    def add(self, subject: Call, between: list[str]) -> None:
        """``between`` were called on this occasion, the nearest to ``subject`` first."""
        name = subject.function
        self._count_repeats(subject, bool(between))
        self._occasions[name].add(subject.context, frozenset(between))
        nearness = self._nearness[name]
        for distance, other in enumerate(between):
            nearness[other] += distance

    def _count_repeats(self, call: Call, interrupted: bool) -> None:
        key = (call.thread, call.function)
        self._repeats[key] = 1 if interrupted else self._repeats.get(key, 1) + 1
        if self._repeats[key] > MOST_REPEATS:
            self._loops.add(call.function)

    def kept(self, fewest: int) -> Iterator[tuple[str, Found[str]]]:
        """(function, what is always between its calls)."""
        for name, occasions in self._occasions.items():
            if name in self._loops:
                continue
            found = [
                one
                for one in occasions.found(fewest)
                if one.thing not in self._loops and self.nesting.side_by_side(name, one.thing)
            ]
            yield from ((name, one) for one in self._worth_keeping(name, found))

    def _worth_keeping(self, name: str, found: list[Found[str]]) -> Iterator[Found[str]]:
        distance = self._nearness[name]
        found.sort(key=lambda one: (distance[one.thing] / one.support, one.thing))
        nearest = next((one for one in found if one.when.unconditional), None)
        for one in found:
            if one is nearest or (is_of_a_step(name) and is_of_a_step(one.thing)):
                yield one


class OrderLearner(Learner):
    """Follows the order of calls; its subclasses say what an occasion is."""

    def __init__(self) -> None:
        self._recency, self._pairs = Recency(), Pairs()

    def run_ended(self) -> None:
        self._recency.forget()


def is_of_a_step(name: str) -> bool:
    return name.startswith(STEP)
