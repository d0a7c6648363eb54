"""Look at variables around calls that may change them: before, after, and what that proves.

What is asked decides what is read. Whether a gradient is None costs a look at the attribute;
whether a content *changed* costs a sample before the call and one after, which are every element
of a small tensor (:mod:`remora.check.observe.contents`). Where the samples of a larger
tensor are equal, the fact stays undecided in this call, and nobody may call it violated; the next
call then takes a digest of every element as well, before and after, and decides. So does the first
call of all. As long as samples keep deciding nothing, whole digests are taken again after 1, 2,
4, … up to 64 further calls. A verdict therefore comes

- in the call itself: for small tensors, at the first call, and wherever the samples differ;
- at the next call: when a larger tensor stops changing, or changes in no sampled place; later if it
  did that again and again, as gradients of a GAN do at every other call;
- at the end of the step: for tensors on an accelerator, which are compared there and asked for
  once a step; the finding names the step of the call, though not the line of it.

Whether a content is *zero* or *finite* is read off all of a small one. Of a larger tensor
every element is read where a look asks for it (``whole``: gradients as backward leaves them, where
what is infinite comes from), elsewhere a sample, and all of it at every sixteenth call.

``exact`` looks, as a learner makes them, decide in every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from remora.check.calls import Call
from remora.check.conditions import Properties
from remora.check.observation import Alike, Look, Observation
from remora.check.observe.variables import Variables

if TYPE_CHECKING:
    from remora.check.observe.moment import Moment
    from remora.check.observe.together import Together
    from remora.check.observe.watched import Before, Watched

MOST_JOINED = 64


class Around:
    """Follows one function whose calls may change variables."""

    def __init__(self, variables: Variables, looks: Sequence[Look]) -> None:
        self._variables, self._looks = variables, tuple(looks)
        self._kinds = sorted({look.kind for look in looks})
        self._is_exact = any(look.exact for look in looks)
        self._version = -1
        self._together: list[Together] = []
        self._apart: list[Watched] = []
        self._always: list[tuple[Watched, Before]] | None = None
        """What of these a call begins with, where it is the same for every call."""
        self._reads_own = False
        self._joined: dict[tuple[int, ...], tuple[Alike, object]] = {}

    def begin(self, call: Call, subject: Any, moment: Moment) -> None:
        """``call`` is about to be made on ``subject``."""
        variables = self._variables
        variables.meet(subject)
        moment[variables] = subject  # met, for who asks next
        if variables.version != self._version:
            self._list_anew()
        own = variables.own_of(subject) if self._reads_own else None
        together = self._together
        begun = []
        for one in together:  # a comprehension costs more
            begun.append(one.begin(moment, own))  # noqa: PERF401
        if (taken := self._always) is None:
            taken = [(one, found) for one in self._apart if (found := one.before(own)) is not None]
        call.notes[self] = together, begun, taken

    def end(self, call: Call, moment: Moment) -> Seen:
        """What the call has done to each variable that matters."""
        taken = call.notes.pop(self, None)
        if taken is None:
            return ()
        together, begun, apart = taken
        parts: list[Seen] = []
        for one, what in zip(together, begun, strict=True):
            parts.append(one.end(what, moment))
        if apart:
            parts.append([seen for one, was in apart if (seen := one.after(*was)) is not None])
        return parts[0] if len(parts) == 1 else self._join(parts)

    def _join(self, parts: Sequence[Seen]) -> Seen:
        if {*map(type, parts)} != {Alike}:
            return [one for part in parts for one in part]
        key = tuple(map(id, parts))
        known = self._joined.get(key)
        if known is None:
            if len(self._joined) >= MOST_JOINED:
                self._joined.clear()
            whole = Alike(one for part in parts for one in part)  # type: ignore[misc]
            known = self._joined[key] = whole, parts
        return known[0]

    def _list_anew(self) -> None:
        from remora.check.observe.together import Together
        from remora.check.observe.watched import Watched

        variables = self._variables
        self._version = variables.version
        self._together, self._apart = [], []
        for kind in self._kinds:
            watched = {
                one.name: Watched(one, looks)
                for one in variables.of(kind)
                if (looks := [look for look in self._looks if look.covers(one.name, kind)])
            }
            for rows in () if self._is_exact else variables.rows(kind):
                if part := rows.of([one.name for one in rows.variables if one.name in watched]):
                    taken = [watched.pop(one.name) for one in part.variables]
                    self._together.append(Together(variables, part, taken))
            self._apart += watched.values()
        every = [*self._apart, *(one for part in self._together for one in part.watched)]
        self._reads_own = any(one.fixed is None for one in every)
        always = [(one, one.always) for one in self._apart if one.always is not None]
        self._always = always if len(always) == len(self._apart) else None


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


Seen = Sequence[Observation | Unsettled]
"""What is seen at one call."""


def settled(observed: Seen) -> list[Observation]:
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
