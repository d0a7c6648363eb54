"""Constant input: within a model's forward, a function is always given one value of an input.

Learned from: the switches (truth values, None, short text) and zeros that functions are given
while the forward of a root module runs, held against the context alone: phase, gradient mode,
autocast. Kept is only what changes with the context, such as dropout's ``training``, True when
the phase is train and False when it is eval. That is what a switch which follows the context looks
like, and all that another program has to agree on:

- What is always the same, such as ``inplace``, is a choice of the program, not a sign of health.
- What depends on other inputs is as much its choice as those are.
- Around the model, context and choice go together by accident: a loss is summed in evaluation and
  averaged in training, ``train()`` is called while the phase is still eval.

A module's own mode is not among these: what makes use of it is given it as an input, and a part
of a model is frozen on purpose. Of numbers only zero is a switch: a probability of nothing, as in
``dropout_p=0.0``.

What TrainCheck's APIContain with an argument covers (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from remora.check.calls import MODEL_FORWARD, Call
from remora.check.conditions import ABSENT, same
from remora.check.examples import Occasions
from remora.check.relations.contract import Claim, Learned, Learner
from remora.check.relations.each_call import EachCall, Verdict, is_switch


class ConstantInput(Claim, frozen=True, tag="constant input"):
    """Input ``property`` of ``function`` (such as ``training``) is one of ``values``."""

    function: str
    property: str
    values: tuple[Any, ...]

    def words(self) -> str:
        values = " or ".join(map(repr, self.values))
        return f"{self.property} of {self.function} within a model is {values}"

    def functions(self) -> tuple[str, ...]:
        return (self.function, MODEL_FORWARD)

    def inputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.property})}


class ConstantInputLearner(Learner):
    def __init__(self) -> None:
        self._occasions: dict[str, Occasions[tuple[str, Any, bool]]] = defaultdict(Occasions)

    def end(self, call: Call) -> None:
        if not call.failed and _is_within_forward(call):
            self._occasions[call.function].add(call.context, set(_switches_of(call)))

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, occasions in self._occasions.items():
            for found in occasions.found(fewest):
                if found.against and not found.when.inverted:
                    where, value, _ = found.thing
                    claim = ConstantInput(name, where, (value,))
                    yield Learned(claim, found.when, found.support, found.against)


def _switches_of(call: Call) -> Iterator[tuple[str, Any, bool]]:
    """Name and value; and whether that is a truth value, since False equals zero."""
    for name, value in call.inputs.items():
        zero = type(value) is float and value == 0.0 and "." not in name
        if zero or is_switch(name, value):
            yield name, value, type(value) is bool


def _is_within_forward(call: Call) -> bool:
    around = call.parent
    while around is not None:
        if around.function == MODEL_FORWARD:
            return True
        around = around.parent
    return False


class ConstantInputMachine(EachCall):
    claims = ConstantInput

    @staticmethod
    def verdict(claim: ConstantInput) -> Verdict:
        name, values = claim.property, claim.values

        def judge(call: Call) -> bool | None:
            found = call.inputs.get(name, ABSENT)
            if found is ABSENT or not _is_within_forward(call):
                return None
            return any(same(found, value) for value in values)

        return judge

    @staticmethod
    def beside(call: Call) -> bool:
        return _is_within_forward(call)

    @staticmethod
    def seen(claim: ConstantInput, call: Call) -> str:
        return f"{claim.property} is {call.inputs[claim.property]!r}"
