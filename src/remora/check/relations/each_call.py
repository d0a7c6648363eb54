"""What relations over one call share: each call is judged alone, once it has returned.

A call that raised says nothing. Conditions rest on the context and on those inputs that mean the
same in every program: dtypes, ``requires_grad``, modes, and switches (truth values, names).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from remora.check.calls import Call, Known
from remora.check.conditions import Clause, Condition, Constant
from remora.check.deduction import MOST_STRINGS
from remora.check.relations.contract import MOST_VERDICTS, Machine, Rule

Verdict = Callable[[Call], bool | None]
"""Whether a claim holds of a call; None where the call lacks what it is about."""

_FACTS = (".dtype", ".requires_grad", ".training")
_SWITCHES = (bool, str, type(None))


def circumstances(call: Call) -> dict[str, Any]:
    """What a condition may rest on."""
    told = {
        name: value
        for name, value in call.inputs.items()
        if name.endswith(_FACTS) or is_switch(name, value)
    }
    return {**call.context, **told}


def is_switch(name: str, value: Any) -> bool:
    """Whether it is an input passed as a truth value, None or a name, not a part of another."""
    return "." not in name and type(value) in _SWITCHES


def narrowed(
    when: Condition, always: Mapping[str, Sequence[Any]], named: Callable[[str], bool]
) -> Condition | None:
    """``when``, and also what never varied though the claim may depend on it.

    Deduction drops whatever excludes no counterexample, and a program that always runs under
    autocast has none. What ``named`` picks of what held on every occasion is put back, so that
    the claim is not made of programs that differ in it. None for a condition that says only when
    it does not apply: it would apply to whatever another program does.
    """
    if when.inverted:
        return None
    added = [
        Constant(name, tuple(values))
        for name, values in always.items()
        if named(name) and _is_one_thing(values)
    ]
    return Condition(any_of=tuple(_joined(clauses, added) for clauses in when.any_of))


def _is_one_thing(values: Sequence[Any]) -> bool:
    few_names = len(values) <= MOST_STRINGS and all(type(value) is str for value in values)
    return len(values) == 1 or few_names


def _joined(clauses: Sequence[Clause], added: Sequence[Constant]) -> tuple[Clause, ...]:
    there = {clause.property for clause in clauses if isinstance(clause, Constant)}
    return (*clauses, *(one for one in added if one.property not in there))


class EachCall(Machine):
    """Judges every call of the functions that claims are about, as it ends.

    Calls of which all is known (:class:`~remora.check.calls.Known`) and that were found right are
    not judged again: what was judged of the first is counted for the others.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_function: dict[str, list[tuple[Rule, Verdict]]] = defaultdict(list)
        for rule in rules:
            self._by_function[rule.claim.function].append((rule, self.verdict(rule.claim)))

    @staticmethod
    @abstractmethod
    def verdict(claim: Any) -> Verdict:
        """How to judge a call by ``claim``."""

    @staticmethod
    @abstractmethod
    def seen(claim: Any, call: Call) -> str:
        """What is told of a call that ``claim`` does not hold of."""

    @staticmethod
    def beside(call: Call) -> Hashable:
        """What else of ``call``, but for its properties, verdicts depend on."""
        return None

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {}

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._ending(judged) for name, judged in self._by_function.items()}

    def _ending(self, judged: list[tuple[Rule, Verdict]]) -> Callable[[Call], None]:
        beside = None if type(self).beside is EachCall.beside else self.beside
        known: dict[Hashable, tuple[list[Rule], object]] = {}

        def end(call: Call) -> None:
            if call.failed:
                return
            context, inputs, outputs = call.context, call.inputs, call.outputs
            if not type(inputs) is type(outputs) is type(context) is Known:
                self._judge(judged, call)
                return
            key = (
                (id(context), id(inputs), id(outputs)) if beside is None
                else (id(context), id(inputs), id(outputs), beside(call))
            )  # fmt: skip
            if (found := known.get(key)) is not None:
                for rule in found[0]:
                    rule.triggered += 1
            elif (right := self._judge(judged, call)) is not None:
                if len(known) >= MOST_VERDICTS:
                    known.clear()
                known[key] = right, _alike(call)

        return end

    def _judge(self, judged: list[tuple[Rule, Verdict]], call: Call) -> list[Rule] | None:
        """The rules that were judged; None if one of them does not hold."""
        right, wrong = [], False
        for rule, verdict in judged:
            if not rule.concerns(call) or (holds := verdict(call)) is None:
                continue
            rule.triggered += 1
            right.append(rule)
            if not holds:
                wrong = True
                rule.report(self.seen(rule.claim, call), call)
        return None if wrong else right


def _alike(call: Call) -> tuple[object, ...]:
    """What the key of ``call`` is made of, kept so that nothing else takes its id."""
    return call.context, call.inputs, call.outputs
