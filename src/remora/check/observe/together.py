"""Variables of one kind at calls of one function, looked at together.

What is read of each, and when a fact stays undecided, is as in :mod:`remora.check.observe.around`:
those of which no more than a sample decides are handed to :class:`~remora.check.observe.watched.
Watched` as long as it takes, and all of them where a row cannot be read. What follows is paid at
every call: where all is as it was at a call before, it costs the same however many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

from remora.check.conditions import Properties
from remora.check.observation import GRADIENT, PARAMETER, Alike, Observation
from remora.check.observe.around import Unsettled
from remora.check.observe.contents import is_finite, is_zero
from remora.check.observe.moment import Moment
from remora.check.observe.places import Places, StateEntry
from remora.check.observe.rows import Row, Rows
from remora.check.observe.watched import WHOLE_EVERY, Before, Needs, Watched

if TYPE_CHECKING:
    from remora.check.observe.variables import Variables

MOST_KNOWN = 256
MOST_OWNS = 16


class _Taken:
    """What is to be read of each variable, while their properties are what they are."""

    def __init__(self, each: list[tuple[Properties, Needs] | None]) -> None:
        self.each = each
        needs = [one[1] for one in each if one is not None]
        self.content = any(one.content for one in needs)
        self.zero = any(one.zero for one in needs)
        self.finite = any(one.finite for one in needs)
        self.slots = [slot for slot, one in enumerate(each) if one is not None]
        self.whole = {slot for slot in self.slots if each[slot][1].whole}  # type: ignore[index]
        """Those of which all elements are read."""

    def decides(self, slot: int) -> bool:
        """Whether it has to be known if the content of ``slot`` changed."""
        one = self.each[slot]
        return one is not None and one[1].content


class Begun(NamedTuple):
    taken: _Taken
    before: Row | None
    apart: list[tuple[int, Before]]
    """By slot, those that are looked at on their own."""


_Facts = tuple[bytes | None, bytes | None, bytes | None, tuple[int, ...]]
"""By place in the row whether each changed, is zero, is finite, with None for the usual: of all, of
none, of all. And the slots of large ones of which all was read, and is not as the sample. So that
they can be looked up."""

_AS_USUAL: _Facts = (None, None, None, ())


class Together:
    """Follows those variables of one kind and dtype that a row can be read of.

    Args:
        rows: reads them.
        watched: each of them, in the same order.
    """

    def __init__(self, variables: Variables, rows: Rows, watched: Sequence[Watched]) -> None:
        self._variables, self._rows, self.watched = variables, rows, watched
        self._steady: dict[int, int] = {}
        """By slot, the large ones that a sample decides, and the call since which it does."""
        self._turn, self._calls = 0, 0
        self._known: dict[object, tuple[Alike, object]] = {}
        self._taken: dict[object, _Taken] = {}
        fixed = [one.fixed for one in watched]
        self._owns: list[Collection[int] | None] = []
        entries = [one.variable.get for one in watched]
        self._of_parameters = watched[0].variable.kind in (PARAMETER, GRADIENT)
        of_state = [one.parameter for one in entries if isinstance(one, StateEntry)]
        self._parameters = Places(of_state) if of_state else None
        """Of state, those that it is kept of."""
        self._owners = [] if of_state else [one.owner for one in entries]
        self._always = None if None in fixed else self._to_read(fixed)

    def begin(self, moment: Moment, own: Collection[int] | None) -> Begun:
        """A call is about to be made on what owns ``own``."""
        taken = self._always or self._taken_of(own, moment)
        if not taken.content:
            return Begun(taken, None, [])
        before = self._rows.read(moment)
        slots: Sequence[int] = taken.slots
        if before is not None:
            slots = before.layout.large
            slots = slots and [one for one in slots if one not in self._steady]
        if not slots:
            return Begun(taken, before, [])
        apart = [
            (slot, found)
            for slot in slots
            if taken.decides(slot) or before is None
            if (found := self.watched[slot].before(own)) is not None
        ]
        return Begun(taken, before, apart)

    def end(self, begun: Begun, moment: Moment) -> Sequence[Observation | Unsettled]:
        """What the call has done."""
        taken, before, apart = begun
        self._calls += 1
        after = self._rows.read(moment) if before is not None or not taken.content else None
        if after is None:
            return self._one_by_one(begun)
        if after.layout.slots:
            facts = self._facts(taken, before, after, moment)
            if facts[0] is not None and after.layout.large:
                self._doubt(after, facts[0])
        else:
            facts = _AS_USUAL
        key = (
            id(taken), id(after.layout), facts, id(before.layout) if before is not None else 0,
            tuple([slot for slot, _ in apart]) if apart else (),
        )  # fmt: skip
        known = self._known.get(key)
        found = known[0] if known is not None else self._meet(key, begun, after, facts)
        return [*found, *self._apart(apart)] if apart else found

    # ------------------------------------------------------------ what is read

    def _taken_of(self, own: Collection[int] | None, moment: Moment) -> _Taken:
        tensors = self._rows.parameters(moment)
        key = self._number_of(own), *self._states(tensors)
        if (known := self._taken.get(key)) is None:
            if len(self._taken) >= MOST_KNOWN:
                self._taken.clear()
                self._known.clear()
            known = self._taken[key] = self._to_read(
                [
                    None if tensor is None else one.variable.properties(tensor, own)
                    for one, tensor in zip(self.watched, tensors, strict=True)
                ]
            )
        return known

    def _number_of(self, own: Collection[int] | None) -> int:
        """Another for each that is another."""
        for number, known in enumerate(self._owns):
            if known is own or known == own:
                return number
        if len(self._owns) >= MOST_OWNS:
            self._owns.clear()
            self._taken.clear()
        self._owns.append(own)
        return len(self._owns) - 1

    def _states(self, tensors: Sequence[Any]) -> Sequence[Hashable]:
        """What properties of each may have changed since they were listed."""
        if self._of_parameters:
            return [
                None if one is None else (id(one), one.requires_grad, one.grad is None)
                for one in tensors
            ]
        is_gone = list(map(is_, tensors, repeat(None)))
        if self._parameters is not None:
            of = self._parameters.tensors()
            return [*is_gone, *[one is not None and one.grad is not None for one in of]]
        return [*is_gone, *[getattr(owner(), "training", None) for owner in self._owners]]

    def _to_read(self, properties: Sequence[Properties | None]) -> _Taken:
        return _Taken(
            [
                (of_one, needs)
                if of_one is not None and (needs := one.needed(of_one)) is not None
                else None
                for one, of_one in zip(self.watched, properties, strict=True)
            ]
        )

    def _facts(self, taken: _Taken, before: Row | None, after: Row, moment: Moment) -> _Facts:
        changed = zero = finite = None
        if before is not None and before.layout.slots:
            same = before.layout is after.layout
            changed = after.differs(before) if same else after.differs_from(before)
        if taken.zero:
            zero = after.is_zero()
        if taken.finite:
            finite = after.is_finite()
        large = after.layout.large and (taken.finite or taken.zero)
        not_whole = self._not_whole(taken, after, zero, finite, moment) if large else ()
        return (
            None if changed is None else changed.tobytes(),
            None if zero is None else zero.tobytes(),
            None if finite is None else finite.tobytes(),
            not_whole,
        )

    def _not_whole(
        self, taken: _Taken, after: Row, zero: Any, finite: Any, moment: Moment
    ) -> tuple[int, ...]:
        """The large ones of which all has to be read now, and is not as their sample is."""
        self._turn += 1
        whole, turn, found = taken.whole, self._turn, []
        tensors: list[Any] | None = None
        for place, slot in enumerate(after.layout.large, after.layout.small):
            if slot not in whole and (turn + slot) % WHOLE_EVERY:
                continue
            if tensors is None:
                tensors = self._rows.tensors(moment)
            tensor = tensors[slot]
            looks_finite = taken.finite and (finite is None or finite[place])
            looks_zero = zero is not None and zero[place]
            if (
                looks_finite
                and not self._rows.is_finite_throughout(after, place, tensor)
                and is_finite(tensor, None, enough=False) is False
            ) or (looks_zero and is_zero(tensor, None, enough=False) is False):
                found.append(slot)
        return tuple(found)

    # ------------------------------------------------------------ what is seen

    def _meet(self, key: object, begun: Begun, after: Row, facts: _Facts) -> Alike:
        found = Alike(self._seen(begun, after, facts))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        before = begun.before
        layout = before.layout if before is not None else None
        self._known[key] = found, (begun.taken, after.layout, layout)
        return found

    def _seen(self, begun: Begun, after: Row, facts: _Facts) -> Iterator[Observation]:
        taken, before, apart = begun
        all_changed, all_zero, all_finite, not_whole = facts
        without = {slot for slot, _ in apart}
        for slot in taken.slots:
            if slot in without or (of_one := taken.each[slot]) is None:
                continue
            watched, (properties, needs) = self.watched[slot], of_one
            place = after.layout.place_of.get(slot)
            if place is None and not watched.is_gradient:
                continue  # it is gone
            changed = self._changed(slot, before, after, all_changed) if needs.content else None
            zero = finite = None
            if place is not None:
                is_whole = slot not in not_whole
                zero = _told(all_zero, place, usual=False) and is_whole if needs.zero else None
                finite = _told(all_finite, place, usual=True) if needs.finite else None
                finite = finite and is_whole if finite is not None else None
            yield watched.observed(properties, place is None, changed, zero, finite)

    def _changed(
        self, slot: int, before: Row | None, after: Row, facts: bytes | None
    ) -> bool | None:
        """None where the same sample of a large one leaves it open."""
        place = after.layout.place_of.get(slot)
        if place is None:
            return before is not None and slot in before.layout.place_of
        changed = _told(facts, place, usual=True)
        return changed if changed or place < after.layout.small else None

    def _doubt(self, after: Row, changed: bytes) -> None:
        """Large ones of which the sample did not change are looked at on their own in a while."""
        for place, slot in enumerate(after.layout.large, after.layout.small):
            if not changed[place] and (since := self._steady.get(slot)) is not None:
                if self.watched[slot].doubt(self._calls - since):
                    del self._steady[slot]
                else:
                    self._steady[slot] = self._calls

    def _apart(self, apart: Sequence[tuple[int, Before]]) -> Iterator[Observation | Unsettled]:
        for slot, before in apart:
            watched = self.watched[slot]
            if (seen := watched.after(*before)) is not None:
                yield seen
            if watched.is_steady:
                self._steady[slot] = self._calls

    def _one_by_one(self, begun: Begun) -> list[Observation | Unsettled]:
        """A row cannot be read any more: from the next call on, not of those that are to blame."""
        self._variables.leave_apart(self._rows.unfit())
        taken, row, apart = begun
        alone = dict(apart)
        found = []
        for slot in taken.slots:
            before = alone.get(slot) or _alone(taken, row, slot)
            if (seen := self.watched[slot].after(*before)) is not None:
                found.append(seen)
        return found


def _alone(taken: _Taken, row: Row | None, slot: int) -> Before:
    """What one that was read in a row begins with, as if it had been looked at on its own."""
    properties, needs = taken.each[slot]  # type: ignore[misc]
    place = row.layout.place_of.get(slot) if row is not None else None
    if row is None or place is None:
        return properties, needs, None
    return properties, needs, (row.bytes_of(place), None)


def _told(facts: bytes | None, place: int, *, usual: bool) -> bool:
    return usual if facts is None else bool(facts[place])
