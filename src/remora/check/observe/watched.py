"""One variable at calls of one function: what is read of it before and after, and what that proves.

When a fact stays undecided is told in :mod:`remora.check.observe.around`. What follows is paid
for each variable at each call: it is written out rather than composed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from remora.check.conditions import Properties
from remora.check.observation import (
    CHANGED,
    FINITE,
    GRADIENT,
    KEPT,
    ZERO_OR_NONE,
    Look,
    Observation,
)
from remora.check.observe.around import Unsettled
from remora.check.observe.contents import Contents, differ, is_finite, is_zero
from remora.check.observe.variable import Variable

LONGEST_WAIT = 64
WHOLE_EVERY = 16
"""All of a large tensor is read every so many-th time where a sample would do."""
_TURNS = itertools.count()
_NEVER = -1


class Needs(NamedTuple):
    """What has to be read of one variable."""

    content: bool
    zero: bool
    finite: bool
    exact: bool
    reads: bool
    """Whether anything is read of its elements."""
    whole: bool
    """Whether all of them are, for what a sample cannot prove."""


Before = tuple[Properties, Needs, Any]
"""What is known of a variable as a call begins: its properties, what is needed, its content."""


class Watched:
    """Follows one variable."""

    __slots__ = (
        "_contents", "_decided", "_gap", "_get", "_looks", "_looks_taken", "_needs", "_none",
        "_seen", "_wait", "always", "fixed", "is_exact", "is_gradient", "variable",
    )  # fmt: skip

    def __init__(self, variable: Variable, looks: Sequence[Look]) -> None:
        self.variable, self._looks, self._get = variable, looks, variable.get
        self.is_gradient = variable.kind == GRADIENT
        self._contents = Contents()
        self._needs: dict[int, Needs | None] = {}
        self._seen: dict[tuple[Any, ...], Observation] = {}
        """By the id of its properties and the facts."""
        reads = variable.is_one_of_several_optimizers or any(
            look.exact or look.concerns is not None for look in looks
        )
        self.fixed = None if reads else variable.fixed
        """Its properties, where nobody asks for those that change."""
        self._wait, self._gap, self._decided = 0, 1, 0
        self.is_exact = any(look.exact for look in looks)
        self._looks_taken = next(_TURNS)
        self.always = self._if_always()
        """What every call begins with, where nobody asks for properties or content."""
        self._none = self._if_none()

    def _if_always(self) -> Before | None:
        needs = self.needed(self.fixed) if self.fixed is not None else None
        if self.fixed is None or needs is None or needs.content:
            return None
        return self.fixed, needs, None

    def _if_none(self) -> Observation | None:
        """What is observed wherever it is None after the call, where that is always the same."""
        if self.always is None:
            return None
        variable = self.variable
        return Observation(variable.name, variable.fixed, variable.in_use, none=True)

    def before(self, own: Collection[int] | None) -> Before | None:
        tensor = self._get()
        if tensor is None:
            return None
        properties = self.fixed or self.variable.properties(tensor, own)
        needs = self.needed(properties)
        if needs is None:
            return None
        if not needs.content:
            return properties, needs, None
        value = tensor.grad if self.is_gradient else tensor
        if value is None:
            return properties, needs, None
        contents = self._contents
        sample = contents.sample(value)
        if contents.whole or not (self._wait == 0 or needs.exact):
            return properties, needs, (sample, None)
        return properties, needs, (sample, contents.full(value))

    def after(
        self, properties: Properties, needs: Needs, before: Any
    ) -> Observation | Unsettled | None:
        """What the call has done; None if the variable is gone."""
        value = self._get()
        if value is None:
            return None
        if self.is_gradient and (value := value.grad) is None and self._none is not None:
            return self._none
        contents = self._contents
        sampled = full = zero = finite = sample = None
        if value is not None and needs.reads:
            sample = contents.sample(value)
            enough = contents.whole or not (needs.whole or self._is_due())
            zero = is_zero(value, sample, enough) if needs.zero else None
            finite = is_finite(value, sample, enough) if needs.finite else None
        if needs.content:
            sampled, full = self._differences(before, value, sample)
        variable = self.variable
        none, in_use = value is None, variable.in_use
        if contents.remote:
            seen = variable.name, properties, in_use, none
            return Unsettled(*seen, sampled, full, zero, finite, self)
        changed = self.conclude(sampled, full)
        return self.observed(properties, none, changed, zero, finite)

    def observed(
        self,
        properties: Properties,
        none: bool,
        changed: bool | None,
        zero: bool | None,
        finite: bool | None,
    ) -> Observation:
        """Equal observations are one object, so that what was made of one can be looked up."""
        facts = id(properties), self.variable.in_use, none, changed, zero, finite
        known = self._seen.get(facts)
        return known if known is not None else self._meet(properties, facts)

    @property
    def is_steady(self) -> bool:
        """Whether a sample decided whether it changed, when last looked at."""
        return self._wait == _NEVER

    def _is_due(self) -> bool:
        """Whether all of a large tensor is read this time; not of all tensors in the same step."""
        self._looks_taken += 1
        return self._looks_taken % WHOLE_EVERY == 0

    def _meet(self, properties: Properties, facts: tuple[Any, ...]) -> Observation:
        known = Observation(self.variable.name, properties, *facts[1:])
        self._seen[facts] = known
        return known

    def needed(self, properties: Properties) -> Needs | None:
        """What has to be read of it while it has these; None: nothing, it does not matter."""
        key = id(properties)
        if key not in self._needs:
            self._needs[key] = self._found_needed(properties)
        return self._needs[key]

    def _found_needed(self, properties: Properties) -> Needs | None:
        looks = [one for one in self._looks if one.concerns is None or one.concerns(properties)]
        asked = {look.to for look in looks}
        return Needs(
            content=not asked.isdisjoint((CHANGED, KEPT)),
            zero=ZERO_OR_NONE in asked,
            finite=FINITE in asked,
            exact=any(look.exact for look in looks),
            reads=not asked.isdisjoint((CHANGED, KEPT, ZERO_OR_NONE, FINITE)),
            whole=any(look.exact or look.whole for look in looks),
        ) if looks else None  # fmt: skip

    # ------------------------------------------------------------ contents

    def _differences(self, before: tuple[Any, Any] | None, value: Any, now: Any) -> tuple[Any, Any]:
        """Whether the samples differ, and whether the digests do where there is one."""
        if before is None or value is None:
            return (before is None) is not (value is None), None
        sample, full = before
        sampled = sample != now if type(sample) is type(now) is bytes else differ(sample, now)
        if full is None or sampled is True:
            return sampled, None
        return sampled, differ(full, self._contents.full(value))

    def conclude(self, sampled: bool | None, full: bool | None) -> bool | None:
        """Whether the content changed, and when to look at all of it again."""
        if sampled or self._contents.whole:
            self._wait, self._decided = _NEVER, self._decided + 1
            return sampled
        if full is not None:
            self._wait, self._gap = self._gap - 1, min(self._gap * 2, LONGEST_WAIT)
            self._decided = 0
            return full
        self.doubt(self._decided)
        return None

    def doubt(self, decided: int) -> bool:
        """A sample did not decide, as it had in so many calls before; whether all is read next.

        It is at once after many. Not so of what changes at every other call, as gradients of a
        GAN do.
        """
        if decided >= LONGEST_WAIT:
            self._wait, self._gap = 0, 1
        elif self._wait == _NEVER:
            self._wait, self._gap = self._gap - 1, min(self._gap * 2, LONGEST_WAIT)
        else:
            self._wait = max(0, self._wait - 1)
        self._decided = 0
        return self._wait == 0
