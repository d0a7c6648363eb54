"""Fresh: an iterator over data hands out no batch twice.

Learned from: a digest of every batch that a data loader's iterator returns, held against those it
returned shortly before. A loader that repeated none is supposed to repeat none. Two epochs may be
equal, as those of data that is not shuffled are: each is an iterator of its own.

Checked: every batch against the latest :data:`WINDOW` of the same iterator. Workers that share
the seed of a random generator are found at the second batch: their batches come one by one.

Not judged: a batch that is not on the host, or of so few bytes that it may be equal by chance. A
large one is judged by a sample (:mod:`remora.check.observe.batches`). A loader that draws single
samples of a small data set with replacement does repeat itself now and then.

TrainCheck has this as DistinctArgument on what the data set is asked for (OSDI'25, table 2); the
repeated batch itself is seen here.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from remora.check.calls import Call
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule

NEXT = "torch.utils.data.dataloader._BaseDataLoaderIter.__next__"
ITERATOR, DIGEST = "self.identity", "result.digest"
WINDOW = 64
"""Batches back: as many as workers may hand out in turn."""
MOST_ITERATORS = 16
"""Iterators followed at once; the one that was used longest ago is forgotten."""


class Fresh(Claim, frozen=True, tag="fresh"):
    function: str

    def words(self) -> str:
        return f"{self.function} (a data loader) returns no batch twice in one pass"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({ITERATOR})}

    def outputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({DIGEST})}


class Recent:
    """What each iterator returned lately."""

    def __init__(self) -> None:
        self._by_iterator: OrderedDict[object, OrderedDict[object, None]] = OrderedDict()

    def met(self, call: Call) -> bool | None:
        """Whether the result has been returned before; None where that is not judged."""
        iterator, digest = call.inputs.get(ITERATOR), call.outputs.get(DIGEST)
        if iterator is None or digest is None:
            return None
        known = self._by_iterator.setdefault(iterator, OrderedDict())
        self._by_iterator.move_to_end(iterator)
        before = digest in known
        known[digest] = None
        _shorten(known, WINDOW)
        _shorten(self._by_iterator, MOST_ITERATORS)
        return before


def _shorten(ordered: OrderedDict[object, Any], most: int) -> None:
    while len(ordered) > most:
        ordered.popitem(last=False)


class FreshLearner(Learner):
    def __init__(self) -> None:
        self._recent: dict[str, Recent] = defaultdict(Recent)
        self._fresh: Counter[str] = Counter()
        self._repeated: set[str] = set()

    def asks(self, function: str) -> frozenset[str]:
        return frozenset({DIGEST}) if function == NEXT else frozenset()

    def end(self, call: Call) -> None:
        if call.function != NEXT or call.failed:
            return
        before = self._recent[call.function].met(call)
        if before:
            self._repeated.add(call.function)
        elif before is not None:
            self._fresh[call.function] += 1

    def run_ended(self) -> None:
        self._recent.clear()

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, support in self._fresh.items():
            if support >= fewest and name not in self._repeated:
                yield Learned(Fresh(name), support=support)


class FreshMachine(Machine):
    claims = Fresh

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_function: dict[str, list[tuple[Rule, Recent]]] = defaultdict(list)
        for rule in rules:
            self._by_function[rule.claim.function].append((rule, Recent()))

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {}

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        return {name: _ending(judged) for name, judged in self._by_function.items()}


def _ending(judged: list[tuple[Rule, Recent]]) -> Callable[[Call], None]:
    def end(call: Call) -> None:
        if call.failed:
            return
        for rule, recent in judged:
            if not rule.concerns(call) or (before := recent.met(call)) is None:
                continue
            rule.triggered += 1
            if before:
                rule.report("a batch with the same contents as one before", call)

    return end
