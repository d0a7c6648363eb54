"""Periodic change: what a module holds changes every so many steps, and at no other.

A target network that is copied every hundred steps, an average of weights that follows at every
one, a generator that is trained at every fifth step of its discriminator.

Learned from: what stands for the content of every variable as each step ends. A variable is
periodic if all its changes lie equally many steps apart, the first and the end of the run included,
as to which they may only be nearer. Told are the largest modules whose variables change at the same
steps. A change at every step is told only of what no watched call changes: of what an optimizer
does, the relation changes speaks. What changes once an epoch is not learned, since how many steps
that is changes with the batch size. The names are part of the claim: it is about this program.

Checked: at each step's end. A change that is due and does not come is found in the step at which
it was due; one that comes early, in its step. Of large tensors a sample is compared.

Not among TrainCheck's relations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remora.check.calls import Call
from remora.check.observation import Observation, is_below
from remora.check.relations.contract import Claim, Learned, Learner, Machine, Rule
from remora.check.relations.modules import largest_modules
from remora.check.relations.periodic import EPOCH, FEWEST_PERIODS

_IRREGULAR = 0


class PeriodicChange(Claim, frozen=True, tag="periodic change"):
    module: str
    """The module, or the one variable, of this name."""
    every: int

    def words(self) -> str:
        if self.every == 1:
            return f"{self.module} changes at every step"
        return f"{self.module} changes every {self.every} steps, and at no other"

    def functions(self) -> tuple[str, ...]:
        return ()

    def judged(self) -> str | None:
        return None


@dataclass
class _History:
    """Of one variable."""

    content: Hashable
    since: int
    """The step of its last change in this run, or at which it was first seen."""
    changed: bool = False
    """Whether it has changed in this run."""
    epochs: int = 0
    """Epochs that had ended by then."""
    every: int | None = None
    """Steps between changes; 0 where that differs."""
    periods: int = 0
    within_an_epoch: int = 0
    longest: int = 0
    """Steps without a change, in any run."""
    seen: int = 0
    """The last step in this run at which it was there."""
    ends: tuple[int, ...] = ()
    """The steps of the last changes in earlier runs."""

    def meet(self, step: int, content: Hashable, epochs: int) -> None:
        apart, self.seen = step - self.since, step
        if content == self.content:
            self.longest = max(self.longest, apart)
            return
        if self.changed:
            self.every = apart if self.every in (None, apart) else _IRREGULAR
            self.periods += 1
            self.within_an_epoch += epochs == self.epochs
        self.content, self.since, self.epochs, self.changed = content, step, epochs, True

    def begin(self, step: int, content: Hashable) -> None:
        """The first look in another run, or since it was away."""
        self.ends = (*self.ends, self.since)
        self.content, self.since, self.seen, self.changed = content, step, step, False

    @property
    def period(self) -> int | None:
        regular = self.every and self.longest < self.every and self.periods >= FEWEST_PERIODS
        return self.every if regular and (self.every == 1 or self.within_an_epoch) else None


class PeriodicChangeLearner(Learner):
    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}
        self._of_this_run: set[str] = set()
        self._by_calls: set[str] = set()
        self._epochs = 0

    def begin(self, call: Call) -> None:
        self._epochs += call.function in EPOCH

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        self._by_calls.update(one.name for one in observations if one.changed)

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        for name, content in contents.items():
            history = self._histories.get(name)
            if history is None:
                self._histories[name] = _History(content, since=step, seen=step)
            elif name not in self._of_this_run or history.seen != step - 1:
                history.begin(step, content)
            else:
                history.meet(step, content, self._epochs)
            self._of_this_run.add(name)

    def run_ended(self) -> None:
        self._of_this_run.clear()

    def learned(self, fewest: int) -> Iterator[Learned]:
        alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, one in self._histories.items():
            every = one.period
            told = every is not None and not (every == 1 and name in self._by_calls)
            if every is not None and told and one.periods >= fewest:
                alike[every, *one.ends, one.since].append(name)
        for (every, *_), names in sorted(alike.items()):
            for module, below in largest_modules(self._histories, frozenset(names)):
                support = min(self._histories[name].periods for name in below)
                yield Learned(PeriodicChange(module, every), support=support)


# ---------------------------------------------------------------- checking


class PeriodicChangeMachine(Machine):
    claims = PeriodicChange

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._followed = [_Followed(rule) for rule in rules]

    def on_begin(self) -> dict[str, Any]:
        return {}

    def compared(self) -> frozenset[str]:
        return frozenset(one.claim.module for one in self._followed)

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        for one in self._followed:
            one.compare(step, contents)

    def missed(self) -> None:
        for one in self._followed:
            one.begin_anew()


class _Followed:
    """One rule. The module is as one: the last change of any of its variables counts."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self.claim = rule, rule.claim
        self._own: dict[str, bool] = {}
        self._last: dict[str, Hashable] = {}
        self._since = 0
        self._changed = False
        """Whether it has changed since it was there first."""

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        now = {name: _sampled(one) for name, one in contents.items() if self._is_own(name)}
        before, self._last = self._last, now
        known = [name for name in now if name in before]
        if not known:
            self._since, self._changed = step, False
            return
        kept = [name for name in known if now[name] == before[name]]
        self._judge(step, kept, changed=len(kept) < len(known))

    def begin_anew(self) -> None:
        """Steps were missed: what comes next is compared with nothing before it."""
        self._last = {}

    def _judge(self, step: int, kept: Sequence[str], *, changed: bool) -> None:
        apart, every = step - self._since, self.claim.every
        if changed and kept:
            self._tell(False, f"{kept[0]} is as before after step {step}, and others are not")
        elif changed:
            early = self._changed and apart < every
            self._tell(not early, f"they change after step {step}, {apart} after the last time")
        elif apart == every:
            self._tell(False, f"{kept[0]} is as before after step {step}")
        if changed or apart >= every:
            self._since = step
            self._changed = True

    def _tell(self, holds: bool, seen: str) -> None:
        self._rule.triggered += 1
        if not holds:
            self._rule.report(seen, None)

    def _is_own(self, name: str) -> bool:
        if (own := self._own.get(name)) is None:
            own = self._own[name] = is_below(name, self.claim.module)
        return own


def _sampled(content: Hashable) -> Hashable:
    """What was read at every step: a digest of all elements is there at some steps only."""
    return content[:2] if type(content) is tuple else content
