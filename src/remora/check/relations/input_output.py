"""Input-output: a property of an input is the same of the result.

Learned from: every call that returned, its tensors compared with those of the result. Kept is
what follows from what the function does, not from the one model it was seen in:

- dtype, of any tensor given: the first that always agrees. Said with the autocast it was seen
  under, and with what was asked for by an input called ``dtype``.
- shape and ndim, of the first tensor given. Shapes have to agree over several sizes beyond the
  batch's: a square layer keeps the shape too, and the next one does not.
- requires_grad, of a function that is given one tensor and no module, while gradients are on.
- identity: the result is the memory it was given. Of functions that work in place, by their
  names, and of others where they do so under a condition: dropout when it is not training. Not of
  torch's own operators (``relu_``), which could not do otherwise.

Nothing is said of a container, whose parts are somebody's own, nor of a function that only hands on
to another (:mod:`remora.check.handing_on`).

An identity is compared within a call and never learned as a value. What is said of shape or
identity is said with the switches it was seen with. What follows from an equality already told is
not said again. A call without one of the two properties counts against the claim while learning,
and is not judged while checking.

TrainCheck's ConsistentInputOutput (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from remora.check.calls import Call
from remora.check.conditions import ABSENT, same
from remora.check.examples import Found, Occasions
from remora.check.relations.contains import CONTAINERS
from remora.check.relations.contract import Claim, Learned, Learner
from remora.check.relations.each_call import EachCall, Verdict, circumstances
from remora.check.relations.narrowing import narrowed

FEWEST_SHAPES = 2
"""Shapes beyond the batch's size, in which a result has to agree with an input."""

_OPERATORS = ("torch.Tensor.", "torch.nn.functional.")
"""What works in place there are torch's operators."""


class InputOutput(Claim, frozen=True, tag="input-output"):
    """``input`` of the inputs of ``function`` equals ``output`` of its result."""

    function: str
    input: str
    output: str

    def words(self) -> str:
        return f"{self.output} of {self.function} equals {self.input}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.input})}

    def outputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.output})}

    def handed_on(self, to: Mapping[str, str]) -> InputOutput | None:
        return None if self.function in to else self


class Pair(NamedTuple):
    """A tensor given, one returned, and what they have in common."""

    given: str
    returned: str
    suffix: str


class InputOutputLearner(Learner):
    def __init__(self) -> None:
        self._occasions: dict[str, Occasions[Pair]] = defaultdict(Occasions)
        self._shapes: dict[tuple[str, Pair], set[tuple[int, ...]]] = defaultdict(set)

    def end(self, call: Call) -> None:
        if call.failed:
            return
        equal = set(_equal_in(call))
        self._occasions[call.function].add(circumstances(call), equal)
        for pair in equal:
            if pair.suffix == "shape":
                known = self._shapes[call.function, pair]
                if len(known) < FEWEST_SHAPES:
                    known.add(call.inputs[f"{pair.given}.shape"][1:])

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, occasions in self._occasions.items():
            found = [one for one in occasions.found(fewest) if self._means_something(name, one)]
            for one in _not_said_by_another(found):
                named = _NAMED[one.thing.suffix]
                when = narrowed(one.when, occasions.always(one.thing), named)
                if when is not None:
                    given, returned, suffix = one.thing
                    claim = InputOutput(name, f"{given}.{suffix}", f"{returned}.{suffix}")
                    yield Learned(claim, when, one.support, one.against)

    def _means_something(self, name: str, found: Found[Pair]) -> bool:
        if name in CONTAINERS:
            return False
        if found.thing.suffix == "shape":
            return len(self._shapes[name, found.thing]) >= FEWEST_SHAPES
        if found.thing.suffix == "identity":
            return (works_in_place(name) and not name.startswith(_OPERATORS)) or found.against > 0
        return True


def works_in_place(function: str) -> bool:
    """By its name, as torch calls such functions: ``normal_``."""
    return function.endswith("_") and not function.endswith("__")


def _equal_in(call: Call) -> Iterator[Pair]:
    given, returned = _tensors_of(call.inputs), _tensors_of(call.outputs)
    for one in returned:
        for position, other in enumerate(given):
            for suffix in _compared(call, given) if position == 0 else ("dtype",):
                before = call.inputs.get(f"{other}.{suffix}", ABSENT)
                if before is not ABSENT and before == call.outputs.get(f"{one}.{suffix}", ABSENT):
                    yield Pair(other, one, suffix)


def _tensors_of(properties: Any) -> list[str]:
    return [name[: -len(".dtype")] for name in properties if name.endswith(".dtype")]


def _compared(call: Call, given: list[str]) -> tuple[str, ...]:
    """What is compared of the first tensor given."""
    alone = len(given) == 1 and not any(name.endswith(".training") for name in call.inputs)
    required = call.inputs.get(f"{given[0]}.requires_grad")
    if alone and required and call.context.get("grad") is True:
        return ("identity", "dtype", "shape", "ndim", "requires_grad")
    return ("identity", "dtype", "shape", "ndim")


def _not_said_by_another(found: list[Found[Pair]]) -> Iterator[Found[Pair]]:
    """One input's dtype for each result, and nothing that follows from what always holds."""
    chosen: dict[str, Found[Pair]] = {}
    for one in found:
        if one.thing.suffix == "dtype":
            best = chosen.setdefault(one.thing.returned, one)
            if (one.against, one.thing.given) < (best.against, best.thing.given):
                chosen[one.thing.returned] = one
    for one in found:
        said = any(_says(other.thing, one.thing) and other.against == 0 for other in found)
        if not said and (one.thing.suffix != "dtype" or one is chosen[one.thing.returned]):
            yield one


def _says(one: Pair, other: Pair) -> bool:
    """Whether ``other`` is equal whenever ``one`` is."""
    follows = other.suffix in {"identity": ("dtype", "shape", "ndim", "requires_grad"),
                               "shape": ("ndim",)}.get(one.suffix, ())  # fmt: skip
    return follows and one[:2] == other[:2]


def _is_of_dtype(name: str) -> bool:
    return name == "autocast" or (name.endswith("dtype") and "." not in name)


def _is_switch(name: str) -> bool:
    return name.endswith(".training") or (
        "." not in name and name not in ("phase", "grad", "autocast", "rank")
    )


_NAMED: dict[str, Callable[[str], bool]] = {
    "dtype": _is_of_dtype,
    "shape": _is_switch,
    "ndim": _is_switch,
    "identity": lambda name: name.endswith("training") or name == "inplace",
    "requires_grad": lambda name: name == "grad",
}


class InputOutputMachine(EachCall):
    claims = InputOutput

    @staticmethod
    def verdict(claim: InputOutput) -> Verdict:
        given, returned = claim.input, claim.output

        def judge(call: Call) -> bool | None:
            before = call.inputs.get(given, ABSENT)
            after = call.outputs.get(returned, ABSENT)
            if before is ABSENT or after is ABSENT:
                return None
            return same(before, after)

        return judge

    @staticmethod
    def seen(claim: InputOutput, call: Call) -> str:
        if claim.input.endswith(".identity"):
            return "the result is other memory"
        before, after = call.inputs[claim.input], call.outputs[claim.output]
        return f"{claim.input} is {before!r}, {claim.output} is {after!r}"
