"""What relations over one call share: each call is judged alone, once it has returned.

A call that raised says nothing. Conditions rest on the context and on those inputs that mean the
same in every program: dtypes, ``requires_grad``, modes, and switches (truth values, names).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from remora.check.calls import Call, Known
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
        beside = None if type(self).beside is EachCall.beside else self.beside
        return {
            name: Judging(judged, self.seen, beside) for name, judged in self._by_function.items()
        }


class Judging:
    """Judges the calls of one function as they end.

    Args:
        beside: what else of a call, but for its properties, verdicts depend on; None: nothing.
    """

    __slots__ = ("_judged", "_known", "_seen", "beside")

    def __init__(
        self,
        judged: Sequence[tuple[Rule, Verdict]],
        seen: Callable[[Any, Call], str],
        beside: Callable[[Call], Hashable] | None,
    ) -> None:
        self._judged, self._seen, self.beside = judged, seen, beside
        self._known: dict[Hashable, tuple[list[Rule], object]] = {}

    def __call__(self, call: Call) -> None:
        if call.failed:
            return
        context, inputs, outputs = call.context, call.inputs, call.outputs
        if not type(inputs) is type(outputs) is type(context) is Known:
            self.judge(call)
            return
        key = (
            (id(context), id(inputs), id(outputs)) if self.beside is None
            else (id(context), id(inputs), id(outputs), self.beside(call))
        )  # fmt: skip
        if (found := self._known.get(key)) is not None:
            for rule in found[0]:
                rule.triggered += 1
        elif (right := self.judge(call)) is not None:
            if len(self._known) >= MOST_VERDICTS:
                self._known.clear()
            self._known[key] = right, alike(call)

    def judge(self, call: Call) -> list[Rule] | None:
        """The rules that were judged; None if one of them does not hold."""
        right, wrong = [], False
        for rule, verdict in self._judged:
            if not rule.concerns(call) or (holds := verdict(call)) is None:
                continue
            rule.triggered += 1
            right.append(rule)
            if not holds:
                wrong = True
                rule.report(self._seen(rule.claim, call), call)
        return None if wrong else right


def alike(call: Call) -> tuple[object, ...]:
    """What verdicts on ``call`` are kept by, kept so that nothing else takes its id."""
    return call.context, call.inputs, call.outputs
