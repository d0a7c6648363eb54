"""Changes: what a call does to the variables of one kind.

``to`` is what holds of a variable once the call has ended: its content has *changed* from before
the call or was *kept*; it is *none* or *set*; it is *zero or none*; it is *finite*.

Learned from: calls of the functions in :data:`LEARNED`, at which every variable of the kind is
looked at. An example is one variable at one call, with the properties of the call and of the
variable (``variable.…``, :mod:`remora.check.observe.variable`). Three claims come of that:

- ``every``: it holds of each variable that meets the condition;
- ``every`` with a ``module``: it held of each variable below the module of that name, where no
  condition tells these from the others, or only one (such as ``requires_grad``) that a mistake
  may undo. It is about this program;
- not ``every``: it holds of at least one variable of the models that the program has run. The
  condition is about the call.

What a forward does to a buffer depends on whose it is and on the model's mode: both are said.

In a program of several optimizers, a call made on one of them is not judged by what another trains,
unless the condition speaks of that.

A gradient that is None has the content None. Calls that raised say nothing, and what happened on
fewer calls than the support is not learned, however many variables there are.

Checked: at every call, of the variables that meet the condition, by the same facts. Where a fact
is undecided in a call (:mod:`remora.check.observe.around` says when), that variable is not judged
in it. One finding a call names the variables that do not hold.

TrainCheck's APIContain with a change of a variable as the child (OSDI'25, table 2).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP, Call, Known
from remora.check.conditions import Condition, Properties
from remora.check.examples import Found, Occasions
from remora.check.observation import (
    BUFFER,
    CHANGED,
    FACTS,
    FINITE,
    GRADIENT,
    KEPT,
    PARAMETER,
    SET,
    STATE,
    ZERO_OR_NONE,
    Alike,
    Look,
    Observation,
)
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule
from remora.check.relations.judge import Judge
from remora.check.relations.modules import largest_modules
from remora.check.relations.narrowing import narrowed

CONTENT = "content"
MOST_KNOWN = 64
"""Calls that were judged right, and are remembered with all that was seen at them."""
LEARNED: dict[str, dict[str, tuple[str, ...]]] = {
    OPTIMIZER_STEP: {PARAMETER: (CHANGED, KEPT, FINITE), STATE: (CHANGED,)},
    "torch.optim.Optimizer.zero_grad": {GRADIENT: (ZERO_OR_NONE,)},
    "torch.nn.Module.zero_grad": {GRADIENT: (ZERO_OR_NONE,)},
    "torch.Tensor.backward": {GRADIENT: (SET, CHANGED, KEPT, FINITE)},
    MODEL_FORWARD: {BUFFER: (CHANGED, KEPT, FINITE)},
    "torch.nn.utils.clip_grad_norm_": {GRADIENT: (SET, FINITE)},
    "torch.amp.GradScaler.unscale_": {GRADIENT: (SET, CHANGED)},
    "torch.nn.Module.load_state_dict": {PARAMETER: (CHANGED, KEPT), BUFFER: (CHANGED, KEPT)},
}
"""By function and kind, the facts looked for."""
OF_SOME = {CHANGED, SET}
"""Facts of which it says something that they hold of at least one variable."""
BY_MODULE = {CHANGED, KEPT}
_SAYS = {CHANGED: "changes", KEPT: "keeps", SET: "sets"}


class Changes(Claim, frozen=True, tag="changes"):
    function: str
    variables: str
    """Their kind: ``parameter``, ``gradient``, ``buffer`` or ``optimizer state``."""
    to: str
    attribute: str = CONTENT
    every: bool = True
    module: str = ""
    """Only variables of the module of this name, such as ``model.encoder``, or this variable."""

    def __post_init__(self) -> None:
        if self.to not in FACTS:
            raise ValueError(f"{self.to!r} is nothing that becomes of a variable")

    def words(self) -> str:
        which = f"{'every' if self.every else 'some'} {self.variables}"
        where = f" of {self.module}" if self.module else ""
        if self.to in _SAYS:
            return f"{self.function} {_SAYS[self.to]} {which}{where}"
        return f"{self.function} leaves {which}{where} {self.to}"

    def functions(self) -> tuple[str, ...]:
        return (self.function,)


Subject = tuple[str, str]
"""A function and a kind of variables."""


class ChangesLearner(Learner):
    def __init__(self) -> None:
        self._every: dict[Subject, Occasions[str]] = defaultdict(Occasions)
        self._some: dict[Subject, Occasions[str]] = defaultdict(Occasions)
        self._calls: Counter[Subject] = Counter()
        self._by_name: dict[Subject, dict[str, Counter[str]]] = defaultdict(dict)

    def looks(self, function: str) -> tuple[Look, ...]:
        kinds = LEARNED.get(function, {})
        return tuple(Look(kind, to, exact=True) for kind, all_of in kinds.items() for to in all_of)

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        of_call = call.properties()
        for kind, facts in LEARNED[call.function].items():
            seen = [
                (one, frozenset(to for to in facts if one.holds(to)))
                for one in observations
                if one.properties["variable.kind"] == kind and _is_decided(one, facts)
            ]
            if seen:
                self._add((call.function, kind), of_call, seen)

    def _add(
        self, subject: Subject, of_call: Properties, seen: list[tuple[Observation, frozenset[str]]]
    ) -> None:
        self._calls[subject] += 1
        by_name = self._by_name[subject]
        for one, held in seen:
            self._every[subject].add({**of_call, **one.properties}, held)
            counted = by_name.setdefault(one.name, Counter())
            counted.update(held)
            counted[""] += 1
        of_models = [held for one, held in seen if one.in_use]
        if of_models:
            self._some[subject].add(of_call, OF_SOME & frozenset().union(*of_models))

    def learned(self, fewest: int) -> Iterator[Learned]:
        for subject, occasions in self._every.items():
            if self._calls[subject] < fewest:
                continue
            found = _without_implied(occasions.found(fewest))
            always = {one.thing for one in found if one.when.unconditional}
            always |= {SET} if CHANGED in always else set()
            for one in found:
                yield from _learned(subject, one, occasions)
            for one in self._some[subject].found(fewest):
                if one.thing not in always:
                    yield from _learned(subject, one)
            for to in sorted(BY_MODULE.intersection(LEARNED[subject[0]][subject[1]]) - always):
                yield from self._of_modules(subject, to, fewest)

    def _of_modules(self, subject: Subject, to: str, fewest: int) -> Iterator[Learned]:
        by_name = self._by_name[subject]
        held = {name for name, counted in by_name.items() if counted[to] == counted[""]}
        for module, names in largest_modules(by_name, held):
            support = min(by_name[name][""] for name in names)
            if support >= fewest:
                claim = Changes(*subject, to, module=module)
                yield Learned(claim, support=support)


def _is_decided(one: Observation, facts: Iterable[str]) -> bool:
    return all(one.holds(to) is not None for to in facts)


def _without_implied(found: Iterable[Found[str]]) -> list[Found[str]]:
    """A gradient that changes is set: said once."""
    kept = list(found)
    changes = [one.when for one in kept if one.thing == CHANGED]
    return [one for one in kept if one.thing != SET or one.when not in changes]


def _learned(
    subject: Subject, one: Found[str], occasions: Occasions[str] | None = None
) -> Iterator[Learned]:
    """What is said of every variable, of which ``occasions`` tell; or else of some."""
    when: Condition | None = one.when
    if occasions is not None and subject[1] == BUFFER and one.thing in BY_MODULE:
        when = narrowed(one.when, occasions.always(one.thing), _tells_buffers_apart)
    if when is not None:
        claim = Changes(*subject, one.thing, every=occasions is not None)
        yield Learned(claim, when, one.support, one.against)


def _tells_buffers_apart(name: str) -> bool:
    return name in ("variable.owner", "phase")


# ---------------------------------------------------------------- checking


class ChangesMachine(Machine):
    """Judges every rule on what a call did.

    A call that did to the same variables what one before it did, and was found right, is not judged
    again: what was judged of that one is counted.
    """

    claims = Changes

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._known: dict[Hashable, tuple[list[Rule], object]] = {}
        self._by_function: dict[str, list[Judge]] = defaultdict(list)
        for rule in rules:
            self._by_function[rule.claim.function].append(Judge(rule))

    def on_begin(self) -> dict[str, Any]:
        return {}

    def on_end(self) -> dict[str, Any]:
        return {}

    def looks(self) -> dict[str, tuple[Look, ...]]:
        return {
            name: tuple(judge.look() for judge in judges)
            for name, judges in self._by_function.items()
        }

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        context, inputs = call.context, call.inputs
        if not type(context) is type(inputs) is Known:
            self._judge(call, observations)
            return
        alike = (id(observations),) if type(observations) is Alike else map(id, observations)
        key = (call.function, id(context), id(inputs), *alike)
        if (found := self._known.get(key)) is not None:
            for rule in found[0]:
                rule.triggered += 1
        elif (right := self._judge(call, observations)) is not None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = right, (context, inputs, observations)

    def _judge(self, call: Call, observations: Sequence[Observation]) -> list[Rule] | None:
        """The rules that were judged; None if one of them does not hold."""
        verdicts = [(one.rule, one(call, observations)) for one in self._by_function[call.function]]
        if any(held is False for _, held in verdicts):
            return None
        return [rule for rule, held in verdicts if held]
