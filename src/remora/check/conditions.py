"""When an invariant applies: clauses over the properties of what it is about.

An *example* is the group of things one judgement of an invariant looks at, each as a flat dict
of properties: one call for most relations, two variables for consistency, two calls for distinct
arguments. A condition is a disjunction of conjunctions of clauses, perhaps negated as a whole,
as in TrainCheck (OSDI'25, section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Properties = Mapping[str, Any]
Example = Sequence[Properties]
Scalar = str | float | int | bool | None

ABSENT = object()
"""What a property that an example does not have reads as; equal to nothing but itself."""


class Constant(msgspec.Struct, frozen=True, tag="constant", forbid_unknown_fields=True):
    """Every member has the property, with one of these values."""

    property: str
    values: tuple[Any, ...]

    def holds(self, example: Example) -> bool:
        return all(
            any(same(member.get(self.property, ABSENT), value) for value in self.values)
            for member in example
        )

    def words(self) -> str:
        shown = " or ".join(repr(value) for value in self.values)
        return f"{self.property} is {shown}"


class Consistent(msgspec.Struct, frozen=True, tag="consistent", forbid_unknown_fields=True):
    """Every member has the property, with the same value."""

    property: str

    def holds(self, example: Example) -> bool:
        first = example[0].get(self.property, ABSENT)
        return first is not ABSENT and all(
            same(member.get(self.property, ABSENT), first) for member in example
        )

    def words(self) -> str:
        return f"{self.property} is the same"


class Unequal(msgspec.Struct, frozen=True, tag="unequal", forbid_unknown_fields=True):
    """Every member has the property, no two with the same value."""

    property: str

    def holds(self, example: Example) -> bool:
        values = [member.get(self.property, ABSENT) for member in example]
        return not any(
            one is ABSENT or any(same(one, other) for other in values[:position])
            for position, one in enumerate(values)
        )

    def words(self) -> str:
        return f"{self.property} differs"


class Within(msgspec.Struct, frozen=True, tag="within", forbid_unknown_fields=True):
    """Every member lies within this context manager, entered with these arguments."""

    context: str
    arguments: dict[str, Any] = {}

    def holds(self, example: Example) -> bool:
        return all(
            member.get(f"context.{self.context}", False)
            and all(
                same(member.get(f"context.{self.context}.{name}", ABSENT), value)
                for name, value in self.arguments.items()
            )
            for member in example
        )

    def words(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"within {self.context}({given})"


Clause = Constant | Consistent | Unequal | Within


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disjunction of conjunctions of clauses; with ``inverted``, its negation."""

    any_of: tuple[tuple[Clause, ...], ...] = ((),)
    """Without any it is never met."""
    inverted: bool = False

    @property
    def unconditional(self) -> bool:
        return not self.inverted and () in self.any_of

    def holds(self, example: Example) -> bool:
        met = any(all(clause.holds(example) for clause in clauses) for clauses in self.any_of)
        return met is not self.inverted

    def properties(self) -> frozenset[str]:
        """Every property it reads."""
        return frozenset(
            name for clauses in self.any_of for clause in clauses for name in _properties_of(clause)
        )

    def words(self) -> str:
        """In words, such as ``when phase is 'train'``; empty for an unconditional one."""
        if self.unconditional:
            return ""
        each = [" and ".join(clause.words() for clause in clauses) for clauses in self.any_of]
        joined = " or ".join(each if len(each) == 1 else (f"({words})" for words in each))
        if not joined:
            return "always" if self.inverted else "never"
        return f"{'unless' if self.inverted else 'when'} {joined}"


ALWAYS = Condition()


def compiled(condition: Condition) -> Callable[[Example], bool] | None:
    """How to judge ``condition``; None for one that always holds.

    It is judged at every call it may be about: one conjunction of constants over one member, as
    most are, is a few look-ups.
    """
    if condition.unconditional:
        return None
    if condition.inverted or len(condition.any_of) != 1:
        return condition.holds
    return _looked_up(condition.any_of[0]) or condition.holds


def _looked_up(clauses: Sequence[Clause]) -> Callable[[Example], bool] | None:
    """How to judge constants that are equal only to what is the same as they are.

    Not so a number, nor a truth value among others: True equals 1, and is not the same.
    """
    constants = [clause for clause in clauses if isinstance(clause, Constant)]
    switches = [(one.property, one.values[0]) for one in constants if _is_switch(one)]
    texts = [(one.property, one.values) for one in constants if _is_text(one)]
    if len(switches) + len(texts) < len(clauses):
        return None

    def judge(example: Example) -> bool:
        for member in example:
            for name, value in switches:
                if member.get(name, ABSENT) is not value:
                    return False
            for name, values in texts:
                if member.get(name, ABSENT) not in values:
                    return False
        return True

    return judge


def _is_switch(constant: Constant) -> bool:
    return len(constant.values) == 1 and type(constant.values[0]) in (bool, type(None))


def _is_text(constant: Constant) -> bool:
    kinds = {type(value) for value in constant.values}
    return not _is_switch(constant) and kinds <= {str, type(None)}


def same(one: Any, other: Any) -> bool:
    """Equal in kind too: True is not 1, and a NaN is a NaN."""
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def _properties_of(clause: Clause) -> list[str]:
    if isinstance(clause, Within):
        context = f"context.{clause.context}"
        return [context, *(f"{context}.{name}" for name in clause.arguments)]
    return [clause.property]
