"""What relations over one call share: each call is judged alone, once it has returned.

A call that raised says nothing. Conditions rest on the context and on those inputs that mean the
same in every program: dtypes, ``requires_grad``, modes, and switches (truth values, names).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from remora.check.calls import Call
from remora.check.relations.contract import Machine, Rule

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
    """Judges every call of the functions that claims are about, as it ends."""

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

    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        return {}

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        return {name: self._ending(judged) for name, judged in self._by_function.items()}

    def _ending(self, judged: list[tuple[Rule, Verdict]]) -> Callable[[Call], None]:
        seen = self.seen

        def end(call: Call) -> None:
            if call.failed:
                return
            example = None
            for rule, verdict in judged:
                if (when := rule.when) is not None:
                    if example is None:
                        example = (call.properties(),)
                    if not when(example):
                        continue
                if (holds := verdict(call)) is None:
                    continue
                rule.triggered += 1
                if not holds:
                    rule.report(seen(rule.claim, call), call)

        return end
