"""How often healthy runs are alarmed about: the counts of each check, their rates and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from remora.check.invariants import Invariant
from remora.check.report import CheckReport

PUBLISHED = {1: (0.3105, 0.039), 4: (0.1127, 0.021), 6: (0.1066, 0.015)}
"""By the number of programs learned from: TrainCheck's rate over all invariants as published
(OSDI'25, section 6.4), and as its own artifact gives it when run again."""


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of how many invariants how many were judged, and how many of those did not hold."""

    invariants: int = 0
    triggered: int = 0
    violated: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.invariants + other.invariants,
            self.triggered + other.triggered,
            self.violated + other.violated,
        )

    @property
    def rate(self) -> float:
        """Violated over all."""
        return self.violated / self.invariants if self.invariants else 0.0

    @property
    def rate_of_triggered(self) -> float:
        return self.violated / self.triggered if self.triggered else 0.0


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One healthy program, held against what others, or itself, have taught."""

    program: str
    learned_from: tuple[str, ...]
    run: str = "other"
    """``other`` program, or of the same one ``own`` run, another ``seed`` or ``batch size``."""
    by_relation: dict[str, Counts] = {}
    alarms: tuple[str, ...] = ()
    """Each violated invariant in words, with what was seen."""
    trouble: str | None = None
    """Why there are no counts, where there are none."""

    @property
    def counts(self) -> Counts:
        return total(self.by_relation.values())


class Lesson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What some programs have taught, all of them together."""

    learned_from: tuple[str, ...]
    invariants: int = 0
    seconds: float = 0.0
    """From the start of ``remora learn`` to its end."""
    dropped: tuple[str, ...] = ()
    """What did not hold in the very runs, and why."""
    trouble: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All there is to tell."""

    lessons: tuple[Lesson, ...] = ()
    checks: tuple[Check, ...] = ()


def total(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


def by_relation(invariants: Iterable[Invariant], report: CheckReport) -> dict[str, Counts]:
    """The counts of one check, relation by relation."""
    triggered, violated = set(report.triggered), {one.invariant for one in report.violations}
    known = list(invariants)
    each: tuple[Callable[[Invariant], bool], ...] = (
        lambda one: True,
        lambda one: one.name in triggered,
        lambda one: one.name in violated,
    )
    counted = [Counter(one.relation for one in known if holds(one)) for holds in each]
    return {name: Counts(*(one[name] for one in counted)) for name in sorted(counted[0])}


# ---------------------------------------------------------------- tables


def markdown(outcome: Outcome) -> str:
    """Every table: the rates, their programs and relations, and the variants of a program."""
    foreign = [one for one in outcome.checks if one.run == "other"]
    variants = [one for one in outcome.checks if one.run != "other"]
    lessons = [one for one in outcome.lessons if any(_is_of(one, check) for check in foreign)]
    parts = [_rates(lessons, foreign)]
    for lesson in lessons:
        checks = [check for check in foreign if _is_of(lesson, check)]
        parts += [f"Learned from {', '.join(lesson.learned_from)}:\n", _programs(checks)]
        parts.append(_relations(checks))
    if variants:
        parts += ["Learned from one run of the program itself:\n", _variants(variants)]
    return "\n".join(parts)


def _is_of(lesson: Lesson, check: Check) -> bool:
    return check.learned_from == lesson.learned_from


def _rates(lessons: Iterable[Lesson], checks: Sequence[Check]) -> str:
    rows = []
    for lesson in lessons:
        known = [one for one in checks if _is_of(lesson, one) and one.trouble is None]
        counts, number = total(one.counts for one in known), len(lesson.learned_from)
        published = " / ".join(f"{rate:.3f}" for rate in PUBLISHED.get(number, ())) or "–"
        rows.append(
            (number, lesson.invariants, len(known), f"{counts.rate:.4f}", published,
             f"{counts.rate_of_triggered:.4f}", f"{lesson.seconds:.1f}")
        )  # fmt: skip
    heads = (
        "programs learned from", "invariants", "programs checked", "violated / all",
        "published / rerun", "violated / triggered", "seconds to learn",
    )  # fmt: skip
    return _table(heads, rows)


def _programs(checks: Iterable[Check]) -> str:
    rows = [(one.program, *_shown(one.counts, one.trouble)) for one in checks]
    return _table(("program", *_COLUMNS), rows)


def _relations(checks: Sequence[Check]) -> str:
    names = sorted({name for one in checks for name in one.by_relation})
    rows = [
        (name, *_shown(total(one.by_relation.get(name, Counts()) for one in checks), None))
        for name in names
    ]
    return _table(("relation", *_COLUMNS), rows)


def _variants(checks: Sequence[Check]) -> str:
    """A program a row, the last for all of them."""
    programs = list(dict.fromkeys(one.program for one in checks))
    rows = [_variant_row(name, [one for one in checks if one.program == name]) for name in programs]
    rows.append(_variant_row("all", checks))
    heads = (
        "program",
        "invariants",
        *(f"violated: {run}" for run in _VARIANTS),
        "rate",
    )
    return _table(heads, rows)


_VARIANTS = ("own", "seed", "batch size")
_COLUMNS = ("invariants", "triggered", "violated", "violated / all", "violated / triggered")


def _variant_row(name: str, checks: Sequence[Check]) -> tuple[object, ...]:
    trouble = next((one.trouble for one in checks if one.trouble is not None), None)
    if trouble is not None and name != "all":
        return (name, trouble, *("–" for _ in (*_VARIANTS, "rate")))
    runs = {run: total(one.counts for one in checks if one.run == run) for run in _VARIANTS}
    clean = runs["seed"] + runs["batch size"]
    violated = [one.violated for one in runs.values()]
    return (name, runs["own"].invariants, *violated, f"{clean.rate:.4f}")


def _shown(counts: Counts, trouble: str | None) -> tuple[object, ...]:
    if trouble is not None:
        return (trouble, *("–" for _ in _COLUMNS[1:]))
    each = (counts.invariants, counts.triggered, counts.violated)
    return (*each, f"{counts.rate:.4f}", f"{counts.rate_of_triggered:.4f}")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
