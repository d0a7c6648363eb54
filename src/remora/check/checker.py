"""Check invariants against the events of a run, as they happen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from remora.check.calls import Call
from remora.check.conditions import compiled
from remora.check.invariants import Invariant
from remora.check.observation import Look, Observation
from remora.check.ranks.meeting import Meeting
from remora.check.relations.contract import Claim, Machine, Rule
from remora.check.relations.registry import RELATIONS
from remora.check.sink import Handler, Sink, Wanted


class Finding(NamedTuple):
    """One time an invariant did not hold."""

    invariant: Invariant
    step: int
    seen: str
    call: Call | None


class Checker(Sink):
    """Every invariant, compiled to machines of its relation.

    Args:
        invariants: what should hold.
        found: called at once with each finding.
        step_over: called when all that a step shows has been found.
    """

    def __init__(
        self,
        invariants: Sequence[Invariant],
        found: Callable[[Finding], None],
        step_over: Callable[[], object] | None = None,
    ) -> None:
        self.invariants = tuple(invariants)
        self._step_over = step_over
        self.step = 0
        self._found = found
        self._meeting: Meeting | None = None
        self.rules = [self._rule(invariant) for invariant in self.invariants]
        self._wanted = _wanted(zip(self.invariants, self.rules, strict=True))
        self._compile(self.rules)

    def _compile(self, rules: Sequence[Rule]) -> None:
        self.functions = frozenset(name for rule in rules for name in rule.claim.functions())
        """The functions that have to be watched."""
        self._machines = list(_machines(rules))
        if self._meeting is not None:
            for machine in self._machines:
                machine.join(self._meeting)
        self._begins = _by_function(machine.on_begin() for machine in self._machines)
        self._ends = _by_function(machine.on_end() for machine in self._machines)
        self._looking = _by_what_they_ask(self._machines, lambda one: one.looks())
        self._measuring = _by_what_they_ask(self._machines, lambda one: one.measures())
        self._ending = [
            one for one in self._machines if type(one).step_ended is not Machine.step_ended
        ]
        self._comparing = [machine for machine in self._machines if machine.compared()]

    def join(self, meeting: Meeting) -> None:
        """The run is one rank of a job of several; to be called before the first event."""
        self._meeting = meeting
        self._compile(self.rules)

    def leave_out(self, functions: Collection[str]) -> None:
        """Judge no invariant that names one of ``functions``; to be called before the first event.

        What nobody sees is called would otherwise be missed at every step.
        """
        left_out = frozenset(functions)
        self._compile([one for one in self.rules if left_out.isdisjoint(one.claim.functions())])

    def wanted(self, function: str) -> Wanted:
        return self._wanted.get(function, Wanted())

    def handlers(self, function: str) -> tuple[tuple[Handler, ...], tuple[Handler, ...]]:
        """What to do when a call of ``function`` begins, and when it has ended."""
        return self._begins.get(function, ()), self._ends.get(function, ())

    def looks(self, function: str) -> tuple[Look, ...]:
        return tuple(
            look
            for machine in self._looking.get(function, ())
            for look in machine.looks()[function]
        )

    def measures(self, function: str) -> frozenset[str]:
        asked = [one.measures()[function] for one in self._measuring.get(function, ())]
        return frozenset().union(*asked)

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        for machine in self._measuring.get(call.function, ()):
            machine.measured(call, numbers)

    def compared(self) -> frozenset[str]:
        return frozenset(name for machine in self._comparing for name in machine.compared())

    @property
    def looks_at_variables(self) -> bool:
        """Whether any invariant is about variables."""
        return bool(self._looking or self._comparing)

    def begin(self, call: Call) -> None:
        for handle in self._begins.get(call.function, ()):
            handle(call)

    def end(self, call: Call) -> None:
        for handle in self._ends.get(call.function, ()):
            handle(call)

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        for machine in self._looking.get(call.function, ()):
            machine.changed(call, observations)

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        self.step = step
        for machine in self._comparing:
            machine.compare(step, contents)

    def step_ended(self, step: int) -> None:
        for machine in self._ending:
            machine.step_ended(step)
        self.step = step + 1
        if self._step_over is not None:
            self._step_over()

    @property
    def remembers(self) -> bool:
        return any(machine.remembers for machine in self._machines)

    def missed(self) -> None:
        for machine in self._machines:
            machine.missed()

    def _rule(self, invariant: Invariant) -> Rule:
        def report(seen: str, call: Call | None) -> None:
            step = call.step if call is not None else self.step
            self._found(Finding(invariant, step, seen, call))

        when = compiled(invariant.when)
        return Rule(invariant.claim, when, report, condition=invariant.when)


def _machines(rules: Iterable[Rule]) -> Iterable[Machine]:
    by_kind: dict[type[Claim], list[Rule]] = defaultdict(list)
    for rule in rules:
        by_kind[type(rule.claim)].append(rule)
    for relation in RELATIONS:
        if relation.claim in by_kind:
            yield relation.machine(by_kind[relation.claim])


def _by_what_they_ask(
    machines: Iterable[Machine], asks: Callable[[Machine], Iterable[str]]
) -> dict[str, list[Machine]]:
    """By function, the machines that ask something of its calls."""
    asking: dict[str, list[Machine]] = defaultdict(list)
    for machine in machines:
        for function in asks(machine):
            asking[function].append(machine)
    return dict(asking)


def _by_function(
    handlers: Iterable[dict[str, Handler]],
) -> dict[str, tuple[Handler, ...]]:
    joined: dict[str, list[Handler]] = defaultdict(list)
    for of_machine in handlers:
        for name, handle in of_machine.items():
            joined[name].append(handle)
    return {name: tuple(each) for name, each in joined.items()}


def _wanted(invariants: Iterable[tuple[Invariant, Rule]]) -> dict[str, Wanted]:
    inputs: dict[str, set[str]] = defaultdict(set)
    outputs: dict[str, set[str]] = defaultdict(set)
    for invariant, rule in invariants:
        judged = rule.claim.judged()
        if judged is not None:
            inputs[judged] |= invariant.when.properties()
        for name, asked in rule.claim.inputs().items():
            inputs[name] |= asked
        for name, asked in rule.claim.outputs().items():
            outputs[name] |= asked
    return {
        name: Wanted(frozenset(inputs[name]), frozenset(outputs[name]))
        for name in {*inputs, *outputs}
    }
