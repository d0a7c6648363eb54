"""Count, in one pass, what was there on which occasions; deduce from that what always is.

An occasion is a moment at which a relation could hold of its subject: a call that ends, for
containment. ``present`` is everything that it held of on that occasion. What is present on every
occasion holds unconditionally; what is present on some is held against the properties of the
occasions (:mod:`remora.check.deduction`).

Memory does not grow with the length of the run: occasions with equal properties are counted, not
kept, and a property with many values (a batch's number, a loss) stops being told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from remora.check.conditions import Condition, Example, Properties
from remora.check.deduction import deduce
from remora.check.observe.context import WARM_UP

MOST_VALUES_OF_A_PROPERTY = 8
FEWEST_EXAMPLES = 3
"""Support: what held on fewer occasions than this may have held by chance."""
_NEVER_TOLD_APART = (
    ".shape", ".length", ".ndim", ".identity", ".digest", ".rows", ".rows_due", ".elements",
)  # fmt: skip
"""Sizes change with the batch, and the last batch is smaller: no condition rests on them.
Nor on an identity, which is another in every run; nor, unless a relation asks for it, on how many
elements an optimizer has."""

Thing = TypeVar("Thing", bound=Hashable)


@dataclass
class Found(Generic[Thing]):
    """A thing that was present whenever the condition held."""

    thing: Thing
    when: Condition
    support: int
    """Occasions on which it was present."""
    against: int
    """Occasions on which it was not; the condition excludes them."""


@dataclass
class Occasions(Generic[Thing]):
    """All occasions of one subject."""

    total: Counter[int] = field(default_factory=Counter)
    """By the number of the properties, how often they were met."""
    present: dict[Thing, Counter[int]] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _examples: list[Properties] = field(default_factory=list)
    _values: dict[str, set[Any]] = field(default_factory=dict)

    def add(self, properties: Mapping[str, Any], present: set[Thing] | frozenset[Thing]) -> None:
        number = self._number_of(properties)
        self.total[number] += 1
        for thing in present:
            counted = self.present.get(thing)
            if counted is None:
                counted = self.present[thing] = Counter()
            counted[number] += 1

    @property
    def count(self) -> int:
        return self.total.total()

    def found(self, fewest: int = FEWEST_EXAMPLES) -> Iterator[Found[Thing]]:
        """What was present always, or whenever a condition held."""
        for thing, counted in self.present.items():
            support = counted.total()
            if support < fewest:
                continue
            when = self._condition(counted)
            against = self.count - support
            if when is not None and not 0 < against < fewest:
                yield Found(thing, when, support, against)

    def _condition(self, counted: Counter[int]) -> Condition | None:
        positives = [(self._examples[number],) for number in counted]
        missing = [n for n, times in self.total.items() if times > counted[n]]
        if any(number in counted for number in missing):
            return None  # the very same properties with it and without
        return _condition_of(positives, [(self._examples[number],) for number in missing])

    def always(self, thing: Thing) -> dict[str, list[Any]]:
        """Each property that every occasion with ``thing`` has, and the values it had then."""
        found: dict[str, list[Any]] = {}
        examples = [self._examples[number] for number in self.present[thing]]
        for name in examples[0]:
            if all(name in one for one in examples):
                found[name] = list({_key(one[name]): one[name] for one in examples}.values())
        return found

    def _number_of(self, properties: Mapping[str, Any]) -> int:
        return self._number({k: v for k, v in properties.items() if self._tells(k, v)})

    def _number(self, example: dict[str, Any]) -> int:
        kept = tuple((name, _key(value)) for name, value in example.items())
        number = self._known.get(kept)
        if number is None:
            number = self._known[kept] = len(self._examples)
            self._examples.append(example)
        return number

    def _tells(self, name: str, value: Any) -> bool:
        """Whether a condition may rest on this property: few values, none of them a size."""
        if type(value) is tuple or name.endswith(_NEVER_TOLD_APART):
            return False
        values = self._values.setdefault(name, set())
        if len(values) > MOST_VALUES_OF_A_PROPERTY:
            return False
        values.add(_key(value))
        if len(values) > MOST_VALUES_OF_A_PROPERTY:
            self._forget(name)
            return False
        return True

    def _forget(self, name: str) -> None:
        """Tell occasions apart by ``name`` no more, nor those there have been: a condition would
        take its absence later on for another value.
        """
        examples, self._examples, self._known = self._examples, [], {}
        number = [
            self._number({k: v for k, v in example.items() if k != name}) for example in examples
        ]
        self.total = _renumbered(self.total, number)
        self.present = {one: _renumbered(counted, number) for one, counted in self.present.items()}


def _condition_of(positives: Sequence[Example], negatives: Sequence[Example]) -> Condition | None:
    """Whether a run is warming up is asked only where nothing else tells: an evaluation, which
    comes later, is no less one for that.
    """
    if not negatives or not any(WARM_UP in one[0] for one in (*positives, *negatives)):
        return deduce(positives, negatives)
    found = deduce(_settled(positives), _settled(negatives))
    return found if found is not None else deduce(positives, negatives)


def _settled(examples: Sequence[Example]) -> list[Example]:
    """``examples`` without whether they were of a warm-up, each once."""
    kept = [{k: v for k, v in one[0].items() if k != WARM_UP} for one in examples]
    return [
        (one,)
        for one in {tuple((k, _key(v)) for k, v in one.items()): one for one in kept}.values()
    ]


def _key(value: Any) -> tuple[Any, bool]:
    """Tells True from 1, as :func:`remora.check.conditions.same` does."""
    return value, type(value) is bool


def _renumbered(counted: Counter[int], number: list[int]) -> Counter[int]:
    new: Counter[int] = Counter()
    for old, times in counted.items():
        new[number[old]] += times
    return new
