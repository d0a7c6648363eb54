"""Keep a claim from programs that differ in what it may depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remora.check.conditions import Clause, Condition, Constant
from remora.check.deduction import MOST_STRINGS


def narrowed(
    when: Condition, always: Mapping[str, Sequence[Any]], named: Callable[[str], bool]
) -> Condition | None:
    """``when``, and also what never varied though the claim may depend on it.

    Deduction drops whatever excludes no counterexample, and a program that always runs under
    autocast has none. What ``named`` picks of what held on every occasion is put back, so that
    the claim is not made of programs that differ in it. None for a condition that says only when
    it does not apply: it would apply to whatever another program does.
    """
    if when.inverted:
        return None
    added = [
        Constant(name, tuple(values))
        for name, values in always.items()
        if named(name) and _is_one_thing(values)
    ]
    return Condition(any_of=tuple(_joined(clauses, added) for clauses in when.any_of))


def _is_one_thing(values: Sequence[Any]) -> bool:
    few_names = len(values) <= MOST_STRINGS and all(type(value) is str for value in values)
    return len(values) == 1 or few_names


def _joined(clauses: Sequence[Clause], added: Sequence[Constant]) -> tuple[Clause, ...]:
    there = {clause.property for clause in clauses if isinstance(clause, Constant)}
    return (*clauses, *(one for one in added if one.property not in there))
