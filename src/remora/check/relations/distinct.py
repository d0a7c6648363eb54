"""Distinct: within a step, no two calls of a function are given the same.

Learned from: functions that change a tensor in place, and change it again when called again:
initialisers such as ``normal_`` and ``kaiming_uniform_``, mostly. To do that twice to the same
memory with the same arguments is to throw the first away, as a model does that initialises its
weights twice. A function that never did so within any step, in a phase of the run in which it was
called more than once in a step, is not supposed to, in those phases. Of functions that change
nothing, two equal calls are at worst wasteful, and checkpointed activations are computed twice on
purpose.

Checked: each call that meets the condition against those before it in its step, from every thread.

Tensors are the same if they are the same memory with the same shape, everything else by value. A
freed tensor's address may be taken by the next: an identity holds a weak reference to the storage
and so is never that of another one, and keeps no memory from being freed. A call with an input
that cannot be told apart whole, such as a list of tensors, is not judged.

TrainCheck's DistinctArgument (OSDI'25, table 2), which also compares lists of integers by their
overlap and judges every function.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import msgspec

from remora.check.calls import Call
from remora.check.conditions import ABSENT, Condition, Constant
from remora.check.relations.contract import ALL, Claim, Learned, Learner, Machine, Rule
from remora.check.relations.input_output import works_in_place

_ONCE_IS_ENOUGH = (
    "requires_grad_", "zero_", "zeros_", "ones_", "eye_", "dirac_", "constant_", "fill_", "copy_",
    ".relu_", ".relu6_", "hardtanh_", "clamp_", "clamp_min_", "clamp_max_", "clip_", "abs_",
    "sign_", "floor_", "ceil_", "round_", "trunc_",
)  # fmt: skip
"""To do these twice is to do them once."""


class Distinct(Claim, frozen=True, tag="distinct"):
    """Within a step, no two calls of ``function`` are given the same ``parameters``: all of them
    if none is named. In a file the field is called ``inputs``.
    """

    function: str
    parameters: tuple[str, ...] = msgspec.field(default=(), name="inputs")

    def words(self) -> str:
        compared = " and ".join(self.parameters) or "inputs"
        return f"no two calls of {self.function} in a step have the same {compared}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        each = [name for one in self.parameters for name in (one, f"{one}.identity")]
        return {self.function: frozenset(each) or ALL}


def given(call: Call, parameters: Sequence[str] = ()) -> Hashable | None:
    """What ``call`` was given, equal for two calls that were given the same; None if unknown."""
    roots = parameters or {name.partition(".")[0]: None for name in call.inputs}
    found = [
        (root, call.inputs.get(root, call.inputs.get(f"{root}.identity", ABSENT))) for root in roots
    ]
    if not found or any(value is ABSENT for _, value in found):
        return None
    return frozenset(found)


class DistinctLearner(Learner):
    """Counts by function and phase."""

    def __init__(self) -> None:
        self._met: dict[tuple[str, Any], set[Hashable]] = defaultdict(set)
        self._distinct: Counter[tuple[str, Any]] = Counter()
        self._repeated: Counter[tuple[str, Any]] = Counter()

    def end(self, call: Call) -> None:
        if call.failed or not _counts(call.function):
            return
        if (seen := given(call)) is None:
            return
        subject = call.function, call.context.get("phase")
        met = self._met[subject]
        if seen in met:
            self._repeated[subject] += 1
        elif met:
            self._distinct[subject] += 1
        met.add(seen)

    def step_ended(self, step: int) -> None:
        self._met.clear()

    def run_ended(self) -> None:
        self._met.clear()

    def learned(self, fewest: int) -> Iterator[Learned]:
        for (name, phase), support in self._distinct.items():
            if support >= fewest and not self._repeated[name, phase]:
                when = Condition(any_of=((Constant("phase", (phase,)),),))
                yield Learned(Distinct(name), when, support)


def _counts(function: str) -> bool:
    return works_in_place(function) and not function.endswith(_ONCE_IS_ENOUGH)


class DistinctMachine(Machine):
    """Keeps what was given in this step, for each rule apart: their conditions differ."""

    claims = Distinct

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._met: list[set[Hashable]] = []
        self._by_function: dict[str, list[tuple[Rule, set[Hashable]]]] = defaultdict(list)
        for rule in rules:
            self._met.append(set())
            self._by_function[rule.claim.function].append((rule, self._met[-1]))

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {}

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        return {name: _ending(judged) for name, judged in self._by_function.items()}

    def step_ended(self, step: int) -> None:
        for met in self._met:
            met.clear()


def _ending(judged: list[tuple[Rule, set[Hashable]]]) -> Callable[[Call], None]:
    def end(call: Call) -> None:
        if call.failed:
            return
        for rule, met in judged:
            if not rule.concerns(call):
                continue
            if (seen := given(call, rule.claim.parameters)) is None:
                continue
            rule.triggered += 1
            if seen in met:
                rule.report("given the same as in an earlier call of this step", call)
            met.add(seen)

    return end
