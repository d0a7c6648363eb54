"""Threshold: what a function returns stays within the bound it was given.

Learned from: inputs that are numbers and have *max* or *min* as a word of their name, such as
``max_new_tokens``, held against the numbers a call returns: a number itself, the length of a
list, the last size of a tensor, and by how much that has grown over the same of an input, as a
sequence grows by the tokens that are generated. Kept is what never went beyond the bound and came
within a fifth of it several times: a number that only happens to be smaller does not.

Checked: every call that returned and has both.

TrainCheck's Threshold (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from remora.check.calls import Call
from remora.check.conditions import ABSENT
from remora.check.relations.contract import Claim, Learned, Learner
from remora.check.relations.each_call import EachCall, Verdict

Bound = Literal["min", "max"]
NEAR = 0.2
"""How close to the bound, as a part of it, a result comes that is bounded by it."""


class Threshold(Claim, frozen=True, tag="threshold"):
    """``output`` of the result is at most (``max``) or at least (``min``) ``input``.

    Of a shape the last size counts. With ``less``, an input, only what ``output`` has more.
    """

    function: str
    output: str
    input: str
    bound: Bound
    less: str = ""

    def words(self) -> str:
        side = "at most" if self.bound == "max" else "at least"
        return f"{_size(self.output, self.less)} of {self.function} is {side} {self.input}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.input, self.less} - {""})}

    def outputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.output})}


def _size(output: str, less: str) -> str:
    last = "the last size of " if output.endswith(".shape") else ""
    name = f"{last}{output.removesuffix('.shape')}"
    return f"{name} less that of {less.removesuffix('.shape')}" if less else name


class ThresholdLearner(Learner):
    def __init__(self) -> None:
        self._held: Counter[Threshold] = Counter()
        self._near: Counter[Threshold] = Counter()
        self._broken: set[Threshold] = set()

    def end(self, call: Call) -> None:
        bounds = {} if call.failed else _bounds_of(call.inputs)
        for name, bound in bounds.items():
            limit = call.inputs[name]
            for size in _sizes_of(call):
                claim = Threshold(call.function, size.output, name, bound, size.less)
                if not _within(size.value, limit, bound):
                    self._broken.add(claim)
                    continue
                self._held[claim] += 1
                self._near[claim] += abs(limit - size.value) <= NEAR * abs(limit)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for claim, support in self._held.items():
            if claim not in self._broken and self._near[claim] >= fewest:
                yield Learned(claim, support=support)


class _Size(NamedTuple):
    output: str
    less: str
    value: float


def _bounds_of(inputs: Mapping[str, Any]) -> dict[str, Bound]:
    found: dict[str, Bound] = {}
    for name, value in inputs.items():
        words = name.split("_") if type(value) in (int, float) else ()
        if ("max" in words) is not ("min" in words):
            found[name] = "max" if "max" in words else "min"
    return found


def _sizes_of(call: Call) -> Iterator[_Size]:
    shapes = [name for name in call.inputs if name.endswith(".shape")]
    for name in call.outputs:
        size = _number(call.outputs, name)
        if size is None:
            continue
        yield _Size(name, "", size)
        for other in shapes if name.endswith(".shape") else ():
            if (given := _number(call.inputs, other)) is not None:
                yield _Size(name, other, size - given)


def _number(properties: Mapping[str, Any], name: str) -> float | None:
    """A number, or the last size of a shape. A number of dimensions is neither."""
    value = properties.get(name, ABSENT)
    if name.endswith(".shape"):
        return value[-1] if type(value) is tuple and value else None
    return value if type(value) in (int, float) and not name.endswith(".ndim") else None


def _within(value: float, limit: float, bound: Bound) -> bool:
    return value <= limit if bound == "max" else value >= limit


class ThresholdMachine(EachCall):
    claims = Threshold

    @staticmethod
    def verdict(claim: Threshold) -> Verdict:
        bound = claim.bound

        def judge(call: Call) -> bool | None:
            limit = _number(call.inputs, claim.input)
            value = _value(claim, call)
            return None if limit is None or value is None else _within(value, limit, bound)

        return judge

    @staticmethod
    def seen(claim: Threshold, call: Call) -> str:
        value, limit = _value(claim, call), call.inputs[claim.input]
        return f"{_size(claim.output, claim.less)} is {value}, {claim.input} is {limit}"


def _value(claim: Threshold, call: Call) -> float | None:
    value = _number(call.outputs, claim.output)
    if not claim.less or value is None:
        return value
    given = _number(call.inputs, claim.less)
    return None if given is None else value - given
