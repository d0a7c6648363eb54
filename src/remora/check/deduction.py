"""Deduce when a relation holds from the examples for and against it.

The algorithm is TrainCheck's (OSDI'25, section 3.5): keep the clauses that hold in every positive
example; drop those that exclude no negative one; if no negative passes what is left, that is the
condition. Otherwise split the positives by the clauses that hold in some of them, and recurse
into a disjunction; if nothing comes of that, look for what the negatives have in common and
negate it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from remora.check.conditions import (
    ABSENT,
    ALWAYS,
    Clause,
    Condition,
    Consistent,
    Constant,
    Example,
    Unequal,
    Within,
    same,
)

MOST_SPLITS = 8
MOST_VALUES = 1
"""More values than this of one property are no constant any more."""
MOST_STRINGS = 4
"""The same for strings: names of a few classes still say something."""


def deduce(positives: Sequence[Example], negatives: Sequence[Example]) -> Condition | None:
    """The condition that every positive example meets and no negative one does.

    None where there is none: the relation then holds by no rule that can be told.
    """
    if not positives:
        return None
    if not negatives:
        return ALWAYS
    found = _disjunction(positives, negatives, MOST_SPLITS)
    if found:
        return Condition(any_of=_without_special_cases(found))
    refused = _disjunction(negatives, positives, MOST_SPLITS)
    if not refused:
        return None
    return Condition(any_of=_without_special_cases(refused), inverted=True)


def _without_special_cases(found: Sequence[tuple[Clause, ...]]) -> tuple[tuple[Clause, ...], ...]:
    """Without conjunctions that ask for all that another asks for, and more: "a, or a and b"."""
    return tuple(
        one
        for one in found
        if not any(len(other) < len(one) and all(c in one for c in other) for other in found)
    )


def _disjunction(
    positives: Sequence[Example], negatives: Sequence[Example], splits: int
) -> list[tuple[Clause, ...]]:
    """Conjunctions that cover every positive and no negative; empty where there are none."""
    common = _common_clauses(positives)
    telling = tuple(c for c in common if any(not c.holds(negative) for negative in negatives))
    if telling and not any(_all_hold(telling, negative) for negative in negatives):
        return [telling]
    if splits == 0 or len(positives) < 2:
        return []
    return _split(positives, negatives, splits, known=common)


def _split(
    positives: Sequence[Example], negatives: Sequence[Example], splits: int, known: Sequence[Clause]
) -> list[tuple[Clause, ...]]:
    """Cover the positives by the largest subsets that one partial clause picks out."""
    open_ones = list(range(len(positives)))
    found: list[tuple[Clause, ...]] = []
    for covered in _partial_subsets(positives, known):
        if not any(index in covered for index in open_ones):
            continue
        branch = _disjunction([positives[i] for i in sorted(covered)], negatives, splits - 1)
        if branch:
            found += [clauses for clauses in branch if clauses not in found]
            open_ones = [index for index in open_ones if index not in covered]
        if not open_ones:
            return found
    return []


def _partial_subsets(positives: Sequence[Example], known: Sequence[Clause]) -> list[frozenset[int]]:
    """Sets of positives (by index) that share a clause the rest does not have, largest first."""
    subsets: dict[frozenset[int], None] = {}
    for clause in _clauses_of_any(positives):
        if clause in known:
            continue
        covered = frozenset(i for i, one in enumerate(positives) if clause.holds(one))
        if 0 < len(covered) < len(positives):
            subsets[covered] = None
    return sorted(subsets, key=lambda covered: (-len(covered), sorted(covered)))


# ---------------------------------------------------------------- clauses


def _common_clauses(examples: Sequence[Example]) -> list[Clause]:
    """Every clause that holds in all ``examples``, one value widened to a few for strings."""
    clauses: list[Clause] = []
    for name in _names_in_all(examples):
        values = _distinct(member[name] for example in examples for member in example)
        if len(values) <= _most(values):
            clauses.append(Constant(name, tuple(values)))
        if len(examples[0]) > 1:
            pair: tuple[Clause, ...] = (Consistent(name), Unequal(name))
            clauses += [one for one in pair if all(map(one.holds, examples))]
    return clauses + _contexts_of(examples)


def _clauses_of_any(examples: Sequence[Example]) -> list[Clause]:
    """The clauses that hold in at least one example, each with a single value."""
    found: dict[Any, Clause] = {}
    for example in examples:
        for clause in _common_clauses([example]):
            found.setdefault(repr(clause), clause)
    return list(found.values())


def _names_in_all(examples: Sequence[Example]) -> list[str]:
    first = [name for name in examples[0][0] if not name.startswith("context.")]
    return [
        name
        for name in first
        if all(member.get(name, ABSENT) is not ABSENT for one in examples for member in one)
    ]


def _contexts_of(examples: Sequence[Example]) -> list[Clause]:
    """The context managers, with their arguments, that every member of every example lies in."""
    return [
        clause
        for name in examples[0][0]
        if name.startswith("context.") and examples[0][0][name] is True
        for clause in [_context(name, examples[0][0])]
        if all(map(clause.holds, examples))
    ]


def _context(name: str, member: Any) -> Within:
    start = f"{name}."
    given = {key[len(start) :]: value for key, value in member.items() if key.startswith(start)}
    return Within(name.removeprefix("context."), given)


def _most(values: Sequence[Any]) -> int:
    return MOST_STRINGS if all(isinstance(value, str) for value in values) else MOST_VALUES


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once; stops soon after there are too many to matter."""
    kept: list[Any] = []
    for value in values:
        if not any(same(value, one) for one in kept):
            kept.append(value)
            if len(kept) > MOST_STRINGS:
                break
    return kept


def _all_hold(clauses: Iterable[Clause], example: Example) -> bool:
    return all(clause.holds(example) for clause in clauses)
