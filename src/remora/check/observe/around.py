"""Look at variables around calls that may change them: before, after, and what that proves.

What is asked decides what is read. Whether a gradient is None costs a look at the attribute;
whether a content *changed* costs a sample before the call and one after, which are every element
of a tensor up to 64 KiB (:mod:`remora.check.observe.contents`). Where the samples of a larger
tensor are equal, the fact stays undecided in this call, and nobody may call it violated; the next
call then takes a digest of every element as well, before and after, and decides. So does the first
call of all. As long as samples keep deciding nothing, whole digests are taken again after 1, 2,
4, … up to 64 further calls. A verdict therefore comes

- in the call itself: for tensors up to 64 KiB, at the first call, and wherever the samples differ;
- at the next call: when a larger tensor stops changing, or changes in no sampled place;
- at the end of the step: for tensors on an accelerator, which are compared there and asked for
  once a step; the finding names the step of the call, though not the line of it.

``exact`` looks, as a learner makes them, decide in every call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from remora.check.calls import Call
from remora.check.conditions import Properties
from remora.check.observation import (
    CHANGED,
    FINITE,
    KEPT,
    ZERO_OR_NONE,
    Look,
    Observation,
)
from remora.check.observe.variables import Variable, Variables

LONGEST_WAIT = 64
_NEVER = -1
_new = tuple.__new__


class Needs(NamedTuple):
    """What has to be read of one variable."""

    content: bool
    zero: bool
    finite: bool
    exact: bool


class Around:
    """Follows one function whose calls may change variables."""

    def __init__(self, variables: Variables, looks: Sequence[Look]) -> None:
        self._variables, self._looks = variables, tuple(looks)
        self._kinds = sorted({look.kind for look in looks})
        self._version = -1
        self._watched: list[Watched] = []

    def begin(self, call: Call, subject: Any) -> None:
        """``call`` is about to be made on ``subject``."""
        variables = self._variables
        variables.meet(subject)
        if variables.version != self._version:
            self._list_anew()
        own = variables.own_of(subject)
        call.note(
            self,
            [
                (watched, before)
                for watched in self._watched
                if (before := watched.before(own)) is not None
            ],
        )

    def end(self, call: Call) -> list[Observation | Unsettled]:
        """What the call has done to each variable that matters."""
        taken = call.notes.pop(self, None) if call.notes is not None else None
        return [watched.after(*before) for watched, before in taken] if taken else []

    def _list_anew(self) -> None:
        self._version = self._variables.version
        self._watched = [
            Watched(one, looks)
            for kind in self._kinds
            for one in self._variables.of(kind)
            if (looks := [look for look in self._looks if look.covers(one.name, kind)])
        ]


class Watched:
    """One variable at calls of one function."""

    __slots__ = ("_contents", "_gap", "_looks", "_needs", "_variable", "_wait")

    def __init__(self, variable: Variable, looks: Sequence[Look]) -> None:
        from remora.check.observe.contents import Contents

        self._variable, self._looks = variable, looks
        self._contents = Contents()
        self._needs: dict[int, Needs | None] = {}
        self._wait, self._gap = 0, 1

    def before(self, own: Collection[int] | None) -> tuple[Properties, Needs, Any] | None:
        variable = self._variable
        tensor = variable.tensor
        if tensor is None:
            return None
        properties = variable.properties(tensor, own)
        key = id(properties)
        needs = self._needs[key] if key in self._needs else self._needed(key, properties)
        if needs is None:
            return None
        if not needs.content:
            return properties, needs, None
        return properties, needs, self._take(variable.value(), needs.exact)

    def after(self, properties: Properties, needs: Needs, before: Any) -> Observation | Unsettled:
        value, variable = self._variable.value(), self._variable
        if value is None and (not needs.content or before is None):
            facts = (False if needs.content else None, None, None, None)
        else:
            facts = self._facts(value, needs, before)
        seen = (variable.name, properties, variable.in_use, value is None)
        if self._contents.remote:
            return Unsettled(*seen, *facts, self)
        sampled, full, zero, finite = facts
        changed = self.conclude(sampled, full) if needs.content else None
        return _new(Observation, (*seen, changed, zero, finite))

    def _needed(self, key: int, properties: Properties) -> Needs | None:
        looks = [one for one in self._looks if one.concerns is None or one.concerns(properties)]
        asked = {look.to for look in looks}
        needs = Needs(
            content=not asked.isdisjoint((CHANGED, KEPT)),
            zero=ZERO_OR_NONE in asked,
            finite=FINITE in asked,
            exact=any(look.exact for look in looks),
        ) if looks else None  # fmt: skip
        self._needs[key] = needs
        return needs

    # ------------------------------------------------------------ contents

    def _take(self, value: Any, exact: bool) -> tuple[Any, Any] | None:
        """A sample, and a digest of everything where it is time for one; None for no tensor."""
        if value is None:
            return None
        contents = self._contents
        sample = contents.sample(value)
        if contents.whole or not (exact or self._wait == 0):
            return sample, None
        return sample, contents.full(value)

    def _facts(self, value: Any, needs: Needs, before: Any) -> tuple[Any, Any, Any, Any]:
        """Whether the samples differ, whether the digests do, whether it is zero and finite."""
        from remora.check.observe.contents import is_finite, is_zero

        sampled = full = zero = finite = None
        if needs.content:
            sampled, full = self._differences(before, value)
        if value is not None and needs.zero:
            zero = is_zero(value, self._contents, needs.exact)
        if value is not None and needs.finite:
            finite = is_finite(value, self._contents, needs.exact)
        return sampled, full, zero, finite

    def _differences(self, before: tuple[Any, Any] | None, value: Any) -> tuple[Any, Any]:
        from remora.check.observe.contents import differ

        if before is None or value is None:
            return (before is None) is not (value is None), None
        sample, full = before
        sampled = differ(sample, self._contents.sample(value))
        if full is None or sampled is True:
            return sampled, None
        return sampled, differ(full, self._contents.full(value))

    def conclude(self, sampled: bool | None, full: bool | None) -> bool | None:
        """Whether the content changed, and when to look at all of it again."""
        if sampled or self._contents.whole:
            self._wait, self._gap = _NEVER, 1
            return sampled
        if full is not None:
            self._wait, self._gap = self._gap - 1, min(self._gap * 2, LONGEST_WAIT)
            return full
        self._wait = max(0, self._wait - 1)
        return None


class Unsettled(NamedTuple):
    """An observation whose facts are on their way from a device."""

    name: str
    properties: Properties
    in_use: bool
    none: bool
    sampled: Any
    full: Any
    zero: Any
    finite: Any
    watched: Watched

    def settle(self, sampled: Any, full: Any, zero: Any, finite: Any) -> Observation:
        changed = self.watched.conclude(sampled, full)
        return Observation(*self[:4], changed, zero, finite)


def settled(observed: Sequence[Observation | Unsettled]) -> list[Observation]:
    """The observations, with what is on devices fetched in one go."""
    from remora.check.observe.contents import fetched

    waiting = [one for one in observed if isinstance(one, Unsettled)]
    facts = iter(fetched([fact for one in waiting for fact in one[4:8]]))
    return [
        one.settle(next(facts), next(facts), next(facts), next(facts))
        if isinstance(one, Unsettled)
        else one
        for one in observed
    ]
