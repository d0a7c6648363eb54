"""Read a file of TrainCheck's invariants as ours: JSON lines, one invariant each.

Nothing is skipped in silence. What cannot be said in our terms is :attr:`Reading.unread`; what is
said with less than the file asks is :attr:`Reading.loosened`; what no running job can meet, only a
trace, is :attr:`Reading.unmet`. Each names its line and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from remora.check.conditions import ALWAYS, Condition, Constant
from remora.check.invariants import (
    FORMAT,
    Header,
    Invariant,
    Invariants,
    Source,
    read_invariants,
    read_lines,
)
from remora.check.relations.registry import RELATIONS, AnyClaim
from remora.check.report import NotChecked
from remora.check.traincheck.arguments import CannotSay
from remora.check.traincheck.claims import Said, said_by
from remora.check.traincheck.clauses import (
    IN_EVERY_CALL,
    WITHIN_A_STEP,
    Precondition,
    condition_of,
    foreign,
    unmet_live,
)
from remora.check.traincheck.lines import InvariantLine, Param
from remora.core.errors import InvariantsUnusable
from remora.core.files import UNDECODABLE

_JUDGED_ON = {"APIContainRelation": "parent_func_call_pre", "ConsistencyRelation": None}
"""By relation, the one group whose condition we judge; any group where a relation has but one."""
_TRIVIAL = {"DistinctArgumentRelation": WITHIN_A_STEP, "ConsistencyRelation": frozenset[str]()}


class Remark(NamedTuple):
    """What is to be said of one line."""

    line: int
    text: str
    """Its own description."""
    reason: str
    names: tuple[str, ...] = ()
    """Of the invariants of ours that it is."""

    def not_checked(self) -> list[NotChecked]:
        """As a report tells it; a line that is no invariant of ours has its number for a name."""
        return [
            NotChecked(invariant=name, expected=self.text, reason=self.reason)
            for name in self.names or (f"line {self.line}",)
        ]


@dataclass
class Reading:
    """A file of invariants, ours or TrainCheck's, and what is to be said of it."""

    invariants: Invariants
    unread: list[Remark] = field(default_factory=list)
    """Lines that are no invariant of ours."""
    loosened: list[Remark] = field(default_factory=list)
    """Lines of which a part is not checked."""
    unmet: list[Remark] = field(default_factory=list)
    """Lines whose condition no running job meets: they are checked on traces only."""
    traincheck: bool = False
    """Whether it is TrainCheck's."""

    def not_checked(self, *, live: bool) -> list[NotChecked]:
        """What of the file is judged by nothing: in a running job, or on a trace."""
        remarks = [*self.unread, *(self.unmet if live else ())]
        return [one for remark in remarks for one in remark.not_checked()]

    def checked_in_part(self) -> list[NotChecked]:
        return [one for remark in self.loosened for one in remark.not_checked()]


def read_any(path: Path) -> Reading:
    """Read a file of invariants, ours or TrainCheck's; its content tells which.

    Raises:
        InvariantsUnusable: it is not there, of neither kind, or damaged; the line is named.
    """
    if _is_traincheck(path):
        return read_traincheck(path)
    return Reading(read_invariants(path))


def read_traincheck(path: Path) -> Reading:
    """Read a file of TrainCheck's invariants.

    An input that the file names by position gets its name if the function is loaded: import torch
    before, if that matters.

    Raises:
        InvariantsUnusable: it cannot be read, or a line of it is damaged.
    """
    found: list[Invariant] = []
    reading = Reading(Invariants(header=Header(sources=()), invariants=()), traincheck=True)
    for number, line in _lines_of(path):
        found += _Line(number, _decoded(path, number, line), reading).invariants()
    header = Header(sources=(Source(program=path.name, steps=0),))
    reading.invariants = Invariants(header=header, invariants=tuple(found))
    return reading


class _Line:
    """One line, on its way into a reading."""

    def __init__(self, number: int, line: InvariantLine, reading: Reading) -> None:
        self._number, self._line, self._reading = number, line, reading
        self._text = line.text_description or line.relation

    def invariants(self) -> list[Invariant]:
        """What it says; empty, and remarked on, where that is nothing of ours."""
        try:
            condition = self._condition()
            said = list(said_by(self._line.relation, _params_of(self._line.params)))
            found = [self._invariant(one, condition) for one in said]
        except CannotSay as reason:
            self._remark(self._reading.unread, f"Remora has no words for {reason}")
            return []
        if lost := list(dict.fromkeys(part for one in said for part in one.lost)):
            self._remark(self._reading.loosened, f"not checked: {', '.join(lost)}", found)
        if unmet_live(condition):
            untold = f"no running job tells {', '.join(foreign(condition))}"
            self._remark(self._reading.unmet, untold, found)
        return found

    def _remark(self, remarks: list[Remark], reason: str, found: Sequence[Invariant] = ()) -> None:
        names = tuple(one.name for one in found)
        remarks.append(Remark(self._number, self._text, reason, names))

    def _condition(self) -> Condition:
        trivial = _TRIVIAL.get(self._line.relation, IN_EVERY_CALL)
        if self._line.precondition is None:
            raise CannotSay("an invariant for which no precondition was found")
        found = [
            (group, condition)
            for group, raw in self._line.precondition.items()
            for condition in [condition_of(_decoded_part(raw, Precondition), trivial)]
            if not condition.unconditional
        ]
        if len(found) > 1:
            raise CannotSay(f"conditions on {' and '.join(group for group, _ in found)} at once")
        if found and _JUDGED_ON.get(self._line.relation, found[0][0]) != found[0][0]:
            raise CannotSay(f"a condition on {found[0][0]}")
        return found[0][1] if found else ALWAYS

    def _invariant(self, said: Said, condition: Condition) -> Invariant:
        return Invariant(
            claim=_claim(said.claim),
            when=_and_given(condition, said.given),
            support=self._line.num_positive_examples or 0,
            against=self._line.num_negative_examples or 0,
        )


def _claim(fields: Mapping[str, Any]) -> AnyClaim:
    """By schema, as a claim in a file of ours is read."""
    tags = {relation.claim.__struct_config__.tag for relation in RELATIONS}
    if fields["type"] not in tags:
        raise CannotSay(f"the relation {fields['type']!r}")
    try:
        claim: AnyClaim = msgspec.convert(fields, AnyClaim)
    except UNDECODABLE as error:
        raise CannotSay(f"what it asks ({error})") from None
    return claim


def _and_given(condition: Condition, given: Mapping[str, Any]) -> Condition:
    """``condition``, and that the call was given these."""
    if not given:
        return condition
    if condition.inverted:
        raise CannotSay(f"a negated condition next to {', '.join(given)}")
    asked = tuple(Constant(name, (value,)) for name, value in given.items())
    return Condition(any_of=tuple((*clauses, *asked) for clauses in condition.any_of))


def _params_of(params: Sequence[msgspec.Raw]) -> list[Param]:
    return [_decoded_part(raw, Param) for raw in params]


def _decoded_part(raw: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNDECODABLE as error:
        raise CannotSay(f"what it asks ({error})") from None


# ---------------------------------------------------------------- lines


def _is_traincheck(path: Path) -> bool:
    """Whether the first line is an invariant of TrainCheck's, or at least none of our headers."""
    first = next((line for _, line in _lines_of(path)), b"")
    try:
        found = msgspec.json.decode(first)
    except UNDECODABLE:
        return b'"relation"' in first and f'"{FORMAT}"'.encode() not in first
    return isinstance(found, dict) and "relation" in found and "format" not in found


def _lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, by number."""
    lines = enumerate(read_lines(path), start=1)
    return ((number, line) for number, line in lines if line.strip())


def _decoded(path: Path, number: int, line: bytes) -> InvariantLine:
    try:
        return msgspec.json.decode(line, type=InvariantLine)
    except UNDECODABLE as error:
        raise InvariantsUnusable(
            f"{path}, line {number}: {error}; TrainCheck's invariants are one JSON object a line"
        ) from None
