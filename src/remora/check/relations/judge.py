"""Judge one claim about what calls do to variables."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.conditions import Condition, Consistent, Constant, Properties, Unequal
from remora.check.observation import (
    CHANGED,
    FACTS,
    FINITE,
    KEPT,
    NONE,
    SET,
    STATE,
    ZERO_OR_NONE,
    Look,
    Observation,
    is_below,
)
from remora.check.relations.contract import Rule

_SEEN = {
    CHANGED: "unchanged", KEPT: "changed", NONE: "not None", SET: "None",
    ZERO_OR_NONE: "neither zero nor None", FINITE: "infinite or NaN",
}  # fmt: skip
_OF_VARIABLES = "variable."
_OWN, _TRAINED = "variable.own", "variable.trained"
_OF_OPTIMIZERS = frozenset(
    {OPTIMIZER_STEP, "torch.optim.Optimizer.zero_grad", "torch.amp.GradScaler.unscale_"}
)
"""Functions called on an optimizer: what only another one trains they leave alone."""
READ_WHOLE = ("torch.Tensor.backward",)
"""Functions of which every element that they give is read: where an infinite one comes from first.
What they are used for is read by samples, and as a whole now and then."""
_MOST_NAMED = 3
_MOST_VERDICTS = 4096


class Judge:
    """One rule. Verdicts on equal properties are remembered."""

    def __init__(self, rule: Rule) -> None:
        self.rule, claim = rule, rule.claim
        self._kind, self._to, self._module = claim.variables, claim.to, claim.module
        self._every = claim.every
        self._of_call = sorted(
            name for name in rule.condition.properties() if not name.startswith(_OF_VARIABLES)
        )
        self._holds = FACTS[claim.to]
        self._spares_others = (
            claim.function in _OF_OPTIMIZERS and _OWN not in rule.condition.properties()
        )
        """An optimizer answers for what it trains, and for what none does."""
        self._verdicts: dict[Hashable, bool] = {}
        """By the properties of the call that matter, and the id of a variable's properties."""
        self._kept: list[Properties] = []
        """Those properties, so that no other takes their id."""

    def look(self) -> Look:
        condition = self.rule.condition
        reads = any(name.startswith(_OF_VARIABLES) for name in condition.properties())
        concerns = partial(may_hold, condition) if reads else None
        whole = self.rule.claim.function in READ_WHOLE
        return Look(self._kind, self._to, self._module, concerns, whole=whole)

    def __call__(self, call: Call, observations: Sequence[Observation]) -> bool | None:
        """Whether the rule holds of ``call``; None if that is not judged."""
        holds = self._holds
        seen = [(one, holds(one)) for one in self._concerned(call, observations)]
        wrong = [one for one, held in seen if held is False]
        if self._every:
            judged = any(held is not None for _, held in seen)
        elif any(held for _, held in seen):
            judged, wrong = True, []
        else:
            judged = bool(wrong) and len(wrong) == len(seen)  # else an undecided one may be it
        if not judged:
            return None
        self.rule.triggered += 1
        if wrong:
            self.rule.report(_named(wrong, _SEEN[self._to]), call)
        return not wrong

    def _concerned(self, call: Call, observations: Sequence[Observation]) -> list[Observation]:
        """The observations that the rule is about."""
        of_call = tuple([_of(call, name) for name in self._of_call]) if self._of_call else ()
        verdicts, module = self._verdicts, self._module
        found = []
        for one in observations:
            verdict = verdicts.get((of_call, id(one.properties)))
            if verdict or (verdict is None and self._decide(call, of_call, one)):
                found.append(one)
        if module:
            found = [one for one in found if is_below(one.name, module)]
        return found if self._every else [one for one in found if one.in_use]

    def _decide(self, call: Call, of_call: Hashable, one: Observation) -> bool:
        rule, properties = self.rule, one.properties
        verdict = properties["variable.kind"] == self._kind and (
            rule.when is None or rule.when(({**call.properties(), **properties},))
        )
        if self._spares_others and properties.get(_OWN) is False:
            verdict = verdict and not (self._kind == STATE or properties.get(_TRAINED))
        if len(self._verdicts) >= _MOST_VERDICTS:
            self._verdicts.clear()
            self._kept.clear()
        self._kept.append(properties)
        self._verdicts[of_call, id(properties)] = verdict
        return verdict


def may_hold(condition: Condition, properties: Properties) -> bool:
    """Whether ``condition`` may hold of a variable at some call, going by the variable alone."""
    return condition.inverted or any(
        all(
            clause.holds((properties,))
            for clause in clauses
            if isinstance(clause, Constant | Consistent | Unequal)
            and clause.property.startswith(_OF_VARIABLES)
        )
        for clauses in condition.any_of
    )


def _of(call: Call, name: str) -> Any:
    found = call.inputs.get(name, _ABSENT)
    return call.context.get(name, _ABSENT) if found is _ABSENT else found


_ABSENT = object()


def _named(wrong: Sequence[Observation], what: str) -> str:
    """The first few names, those of models that run before others."""
    names = [one.name for one in sorted(wrong, key=lambda one: not one.in_use)]
    shown = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    if more > 0:
        shown += f" and {more} more"
    return f"{shown} {'is' if len(names) == 1 else 'are'} {what}"
