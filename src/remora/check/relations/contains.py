"""Contains: a call of one function has a call of another within it.

Learned from: at the end of every call, the functions called within it at any depth, in its own
thread. A function that is there every time is contained; one that is there sometimes is held
against the inputs and the context of the calls. What is contained in something contained is not
said again, nor that a function which only hands on to another calls that; where it is contained
itself, the other is named (:mod:`remora.check.handing_on`). A call that raised says nothing. Inputs
of the contained call are not learned, nor what a model, a container (:data:`CONTAINERS`) or a
closure calls: the program put that there.

Checked: at the end of every call of the parent that meets the condition. Where the claim names
inputs of the child, only calls that were given these count.

TrainCheck's APIContain with a call as the child (OSDI'25, table 2), the child's merged arguments
as ``child_inputs``; a change of a variable as the child is
:mod:`remora.check.relations.changes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from remora.check.calls import CLOSURE, MODEL_FORWARD, Call, Known
from remora.check.conditions import ABSENT, same
from remora.check.examples import Found, Occasions
from remora.check.relations.contract import MOST_VERDICTS, Claim, Learned, Learner, Machine, Rule
from remora.check.relations.narrowing import narrowed

CONTAINERS = frozenset(
    {MODEL_FORWARD, "torch.nn.Sequential.forward", "torch.nn.DataParallel.forward"}
)
"""Functions whose calls are those of the modules that somebody gave them."""
IN_PLACE = "inplace"
"""A switch to another function; part of every condition where it is given."""


class Contains(Claim, frozen=True, tag="contains", omit_defaults=True):
    parent: str
    child: str
    child_inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    """Only calls of the child whose inputs have these properties count."""

    def words(self) -> str:
        return f"{self.parent} calls {self.called()}"

    def called(self) -> str:
        """The child, with the inputs that are asked of it."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.child_inputs.items())
        return f"{self.child} with {given}" if given else self.child

    def functions(self) -> tuple[str, ...]:
        return (self.parent, self.child)

    def missing(self) -> str | None:
        return self.child

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.child: frozenset(self.child_inputs)}

    def handed_on(self, to: Mapping[str, str]) -> Contains | None:
        if to.get(self.parent) == self.child:
            return None
        return msgspec.structs.replace(self, child=to.get(self.child, self.child))


class ContainsLearner(Learner):
    def __init__(self) -> None:
        self._open: dict[Call, set[str]] = {}
        self._occasions: dict[str, Occasions[str]] = defaultdict(Occasions)

    def begin(self, call: Call) -> None:
        self._open[call] = set()
        around = call.parent
        while around is not None:
            if (within := self._open.get(around)) is not None:
                within.add(call.function)
            around = around.parent

    def end(self, call: Call) -> None:
        within = self._open.pop(call, None)
        if within is not None and not call.failed and not _is_container(call):
            within.discard(call.function)  # recursion says nothing
            self._occasions[call.function].add(call.properties(), within)

    def run_ended(self) -> None:
        self._open.clear()

    def learned(self, fewest: int) -> Iterator[Learned]:
        found = {name: list(seen.found(fewest)) for name, seen in self._occasions.items()}
        always = {
            name: {one.thing for one in held if one.when.unconditional}
            for name, held in found.items()
        }
        for parent, held in found.items():
            for one in held:
                always_given = self._occasions[parent].always(one.thing)
                when = narrowed(one.when, always_given, lambda name: name == IN_PLACE)
                if when is not None and not _said_by_another(one, held, always):
                    yield Learned(Contains(parent, one.thing), when, one.support, one.against)


def _is_container(call: Call) -> bool:
    return call.function in CONTAINERS or CLOSURE in call.inputs


def _said_by_another(
    one: Found[str], held: Sequence[Found[str]], always: dict[str, set[str]]
) -> bool:
    """Whether something else contained under the same condition always contains it."""
    return any(
        other.thing != one.thing
        and other.when == one.when
        and one.thing in always.get(other.thing, ())
        and other.thing not in always.get(one.thing, ())
        for other in held
    )


class ContainsMachine(Machine):
    """Counts the calls of each child in each thread; a parent compares its end with its begin."""

    claims = Contains

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_parent: dict[str, list[Rule]] = defaultdict(list)
        self._counts: dict[str, list[_Count]] = defaultdict(list)
        for rule in rules:
            self._by_parent[rule.claim.parent].append(rule)
            self._count_of(rule.claim)

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        counting = {name: Counting(counts) for name, counts in self._counts.items()}
        noting = {
            name: _Noting([self._count_of(one.claim) for one in rules], counting.get(name))
            for name, rules in self._by_parent.items()
        }
        return {**counting, **noting}

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        return {
            parent: _End([(rule, self._count_of(rule.claim)) for rule in rules])
            for parent, rules in self._by_parent.items()
        }

    def _count_of(self, claim: Contains) -> _Count:
        """Rules about the same child with the same inputs share one."""
        counts, asked = self._counts[claim.child], repr(claim.child_inputs)
        found = next((one for one in counts if repr(one.inputs) == asked), None)
        if found is None:
            counts.append(found := _Count(claim.child_inputs))
        return found


class _Count:
    """How often, by thread, a child was called with ``inputs``."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.by_thread: dict[int, int] = {}

    def meets(self, given: Mapping[str, Any]) -> bool:
        return all(same(given.get(name, ABSENT), value) for name, value in self.inputs.items())


class Counting:
    """Counts the calls of one function, each where it has the inputs that are asked."""

    def __init__(self, counts: Sequence[_Count]) -> None:
        self._counts = counts
        self._known: dict[int, tuple[list[dict[int, int]], object]] = {}

    def count(self, thread: int, inputs: Mapping[str, Any]) -> None:
        """One more call was made, with ``inputs``."""
        known = self._known.get(id(inputs))
        for counted in known[0] if known is not None else self._meet(inputs):
            counted[thread] = counted.get(thread, 0) + 1

    def __call__(self, call: Call) -> None:
        self.count(call.thread, call.inputs)

    def _meet(self, inputs: Mapping[str, Any]) -> list[dict[int, int]]:
        found = [one.by_thread for one in self._counts if one.meets(inputs)]
        if type(inputs) is Known:
            if len(self._known) >= MOST_VERDICTS:
                self._known.clear()
            self._known[id(inputs)] = found, inputs
        return found


class _Noting:
    """Notes how often each child of one function had been called when a call of it began."""

    def __init__(self, children: Sequence[_Count], counting: Counting | None) -> None:
        self._children = [one.by_thread for one in children]
        self._counting = counting

    def __call__(self, call: Call) -> None:
        if self._counting is not None:
            self._counting(call)
        thread = call.thread
        call.notes[ContainsMachine] = [seen.get(thread, 0) for seen in self._children]


class _End:
    def __init__(self, rules: list[tuple[Rule, _Count]]) -> None:
        self._judged = [
            (rule, count.by_thread, place, f"no call of {rule.claim.called()}")
            for place, (rule, count) in enumerate(rules)
        ]
        self._known: dict[tuple[int, int], tuple[list[_Judged], object]] = {}

    def __call__(self, call: Call) -> None:
        if call.failed:
            return
        thread, counts = call.thread, call.notes[ContainsMachine]
        for rule, counted, place, seen in self._concerning(call):
            rule.triggered += 1
            if counted.get(thread, 0) == counts[place]:
                rule.report(seen, call)

    def _concerning(self, call: Call) -> list[_Judged]:
        """The rules whose condition ``call`` meets; of properties that are known found once."""
        context, inputs = call.context, call.inputs
        known = self._known.get((id(context), id(inputs)))
        if known is not None:
            return known[0]
        found = [one for one in self._judged if one[0].concerns(call)]
        if type(context) is type(inputs) is Known:
            if len(self._known) >= MOST_VERDICTS:
                self._known.clear()
            self._known[id(context), id(inputs)] = found, (context, inputs)
        return found


_Judged = tuple[Rule, dict[int, int], int, str]
"""A rule, how often its child was called by thread, its place in notes, and what is told."""
