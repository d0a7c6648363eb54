"""Constant output: a property of what a function returns always has one value.

Learned from: the properties of every result, held against what each call was given and where it
was made. Kept is what may go wrong and means the same in another program:

- a dtype that is none of the inputs' (:mod:`remora.check.relations.input_output` says those), such
  as what a function computes in under autocast. It is said with the autocast and the inputs'
  dtypes it was seen with. Of a function that is given no tensors, such as the forward of a whole
  model, only the dtype that autocast asks for.
- that a result requires gradients, of a function that is given no tensors; of others it follows
  from the inputs. It is said with the phase and the gradient mode it was seen in.
- a truth value, None or short text, said with the switches it was seen with; None only of
  functions that also return something else.

Sizes and numbers vary with the batch and the seed, ``ndim`` and the class of a result with the
program: none of these is learned. A call without the property counts against it while learning,
and is not judged while checking.

TrainCheck's ConsistentOutput (OSDI'25, table 2), which knows tensors only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from remora.check.calls import Call
from remora.check.conditions import ABSENT, Condition, Constant, same
from remora.check.examples import Found, Occasions
from remora.check.relations.contract import Claim, Learned, Learner
from remora.check.relations.each_call import EachCall, Verdict, circumstances
from remora.check.relations.narrowing import narrowed

Thing = tuple[str, Any]
_OF_VALUES = ("kind", "shape", "ndim", "length", "identity", "training")
"""Properties of a result that are not learned."""


class ConstantOutput(Claim, frozen=True, tag="constant output"):
    """``property`` (such as ``result.dtype``) of what ``function`` returns is one of ``values``."""

    function: str
    property: str
    values: tuple[Any, ...]

    def words(self) -> str:
        return f"{self.property} of {self.function} is {' or '.join(map(repr, self.values))}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)

    def outputs(self) -> dict[str, frozenset[str]]:
        return {self.function: frozenset({self.property})}

    def handed_on(self, to: Mapping[str, str]) -> ConstantOutput | None:
        return None if self.function in to else self


class ConstantOutputLearner(Learner):
    def __init__(self) -> None:
        self._occasions: dict[str, Occasions[Thing]] = defaultdict(Occasions)
        self._explained: Counter[tuple[str, Thing]] = Counter()
        self._given_tensors: set[str] = set()

    def end(self, call: Call) -> None:
        if call.failed:
            return
        name, things = call.function, set(_things_of(call))
        dtypes = {value for one, value in call.inputs.items() if one.endswith(".dtype")}
        if dtypes:
            self._given_tensors.add(name)
        self._occasions[name].add(circumstances(call), things)
        self._explained.update((name, one) for one in things if one[1] in dtypes)

    def learned(self, fewest: int) -> Iterator[Learned]:
        for name, occasions in self._occasions.items():
            for found in occasions.found(fewest):
                when = self._kept(name, found, occasions.always(found.thing))
                if when is not None:
                    claim = ConstantOutput(name, found.thing[0], (found.thing[1],))
                    yield Learned(claim, when, found.support, found.against)

    def _kept(
        self, name: str, found: Found[Thing], always: dict[str, list[Any]]
    ) -> Condition | None:
        where, value = found.thing
        given_tensors = name in self._given_tensors
        if where.endswith(".dtype"):
            explained = self._explained[name, found.thing] == found.support
            when = narrowed(found.when, always, _is_of_dtypes)
            asked_for = given_tensors or (when is not None and _is_autocasts(when, value))
            return when if asked_for and not explained else None
        if where.endswith(".requires_grad"):
            return None if given_tensors else narrowed(found.when, always, _is_of_gradients)
        if value is None and found.when.unconditional:
            return None
        return narrowed(found.when, always, lambda one: "." not in one and one not in _CONTEXT)


_CONTEXT = ("phase", "grad", "autocast", "rank")


def _things_of(call: Call) -> Iterator[Thing]:
    for name, value in call.outputs.items():
        last = name.rpartition(".")[2]
        if last == "requires_grad":
            if value is True:
                yield name, value
        elif last not in _OF_VALUES and type(value) in (bool, str, type(None)):
            yield name, value


def _is_of_dtypes(name: str) -> bool:
    return name == "autocast" or name.endswith(".dtype")


def _is_of_gradients(name: str) -> bool:
    return name in ("phase", "grad")


def _is_autocasts(when: Condition, dtype: Any) -> bool:
    asks = Constant("autocast", (dtype,))
    return all(asks in clauses for clauses in when.any_of)


class ConstantOutputMachine(EachCall):
    claims = ConstantOutput

    @staticmethod
    def verdict(claim: ConstantOutput) -> Verdict:
        name, values = claim.property, claim.values

        def judge(call: Call) -> bool | None:
            found = call.outputs.get(name, ABSENT)
            if found is ABSENT:
                return None
            return any(same(found, value) for value in values)

        return judge

    @staticmethod
    def seen(claim: ConstantOutput, call: Call) -> str:
        return f"{claim.property} is {call.outputs[claim.property]!r}"
