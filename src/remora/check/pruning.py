"""Choose among invariants: by name, relation, function and support."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from remora.check.invariants import Invariant, Invariants
from remora.check.relations.registry import RELATIONS
from remora.core.errors import BadValue, UnknownName


def prune(
    invariants: Invariants,
    *,
    names: Collection[str] = (),
    relations: Collection[str] = (),
    fewest: int = 0,
) -> Invariants:
    """All but those called ``names``, those of ``relations``, and those of less support.

    Raises:
        BadValue: no invariant of that name.
        UnknownName: no relation of that name.
    """
    _check(invariants, names, relations)
    kept = tuple(
        one
        for one in invariants.invariants
        if one.name not in names and one.relation not in relations and one.support >= fewest
    )
    return msgspec.structs.replace(invariants, invariants=kept)


def select(
    invariants: Invariants,
    *,
    names: Collection[str] = (),
    relations: Collection[str] = (),
    functions: Collection[str] = (),
) -> tuple[Invariant, ...]:
    """Those that are called, related and about what is given; no such wish, all.

    Args:
        functions: parts of the names of functions; one of them has to be watched for it.

    Raises:
        BadValue: no invariant of that name.
        UnknownName: no relation of that name.
    """
    _check(invariants, names, relations)
    return tuple(
        one
        for one in invariants.invariants
        if (not names or one.name in names)
        and (not relations or one.relation in relations)
        and (not functions or _is_about(one, functions))
    )


def _is_about(invariant: Invariant, functions: Collection[str]) -> bool:
    return any(part in name for name in invariant.claim.functions() for part in functions)


def _check(invariants: Invariants, names: Collection[str], relations: Collection[str]) -> None:
    there = {one.name for one in invariants.invariants}
    for name in names:
        if name not in there:
            raise BadValue(
                f"no invariant is called {name!r}; `remora invariants show FILE` lists their names"
            )
    valid = [one.name for one in RELATIONS]
    for name in relations:
        if name not in valid:
            raise UnknownName("relation", name, valid)
