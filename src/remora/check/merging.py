"""Bring what several runs taught into one file.

Learning from all the runs at once says the most. Where there are only their files, an invariant
that one of them has and another lacks is kept if the other could not have learned it: if its runs
called the function that the invariant judges less often than learning needs. If they called it
often enough, it did not hold there as it is said, and it is dropped. Where they differ in no more
than the bounds of a number, the widest count. What a file knows of its runs
is how often each function was called, so a condition that never came in them is not seen: then too
much is dropped, never too little.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from remora.check.examples import FEWEST_EXAMPLES
from remora.check.invariants import Header, Invariant, Invariants
from remora.check.relations.contract import Claim
from remora.check.validation import Dropped


@dataclass(frozen=True)
class Merged:
    kept: Invariants
    dropped: tuple[Dropped, ...]


def merge(
    files: Mapping[str, Invariants],
    *,
    fewest: int = FEWEST_EXAMPLES,
    settled: Iterable[tuple[str, str]] = (),
) -> Merged:
    """All invariants of ``files`` (by what to call each) that none of them contradicts.

    Args:
        fewest: support; calls of the judged function from which a file would have learned it.
        settled: (name of an invariant, file) that were tried on that file's runs themselves:
            its call counts are not asked.
    """
    files = dict(zip(files, widened(list(files.values())), strict=True))
    known, excused = _union(files.values()), frozenset(settled)
    names = {called: frozenset(one.name for one in f.invariants) for called, f in files.items()}
    kept, dropped = [], []
    for name, invariant in known.items():
        against = [
            _contradiction(invariant, called, file, fewest)
            for called, file in files.items()
            if (name, called) not in excused and name not in names[called]
        ]
        why = next((one for one in against if one is not None), None)
        if why is None:
            kept.append(invariant)
        else:
            dropped.append(Dropped(name, invariant.words(), why))
    header = merged_header([file.header for file in files.values()])
    return Merged(Invariants(header=header, invariants=tuple(kept)), tuple(dropped))


def widened(files: Sequence[Invariants]) -> list[Invariants]:
    """``files``, in which claims about the same are the same: one that holds wherever any did.

    Those of which that would say nothing stay as they are.
    """
    joined: dict[Hashable, Claim | None] = {}
    for one in (one for file in files for one in file.invariants):
        if (about := _about(one)) is not None:
            known = joined.get(about, one.claim)
            joined[about] = None if known is None else known.joined(one.claim)
    return [
        msgspec.structs.replace(
            file, invariants=tuple(_with_claim(one, joined) for one in file.invariants)
        )
        for file in files
    ]


def _about(one: Invariant) -> Hashable | None:
    subject = one.claim.subject()
    return None if subject is None else (one.relation, subject, repr(one.when))


def _with_claim(one: Invariant, joined: Mapping[Hashable, Claim | None]) -> Invariant:
    claim = joined.get(_about(one))
    return one if claim is None else msgspec.structs.replace(one, claim=claim)


def merged_header(headers: Sequence[Header]) -> Header:
    versions = dict.fromkeys(
        version for one in headers if one.torch for version in one.torch.split(", ")
    )
    return Header(
        torch=", ".join(versions) or None,
        sources=tuple(source for one in headers for source in one.sources),
        held_out=tuple(source for one in headers for source in one.held_out),
    )


def _union(files: Iterable[Invariants]) -> dict[str, Invariant]:
    """Each invariant once, by name, with all that speaks for it."""
    known: dict[str, Invariant] = {}
    for file in files:
        for one in file.invariants:
            same = known.get(one.name)
            known[one.name] = one if same is None else _added(same, one)
    return known


def _added(one: Invariant, other: Invariant) -> Invariant:
    return msgspec.structs.replace(
        one, support=one.support + other.support, against=one.against + other.against
    )


def _contradiction(invariant: Invariant, called: str, file: Invariants, fewest: int) -> str | None:
    judged = invariant.claim.judged()
    if judged is None:
        return None
    calls = sum(source.calls.get(judged, 0) for source in file.header.sources)
    if calls < fewest:
        return None
    return f"{called} calls {judged} {calls:,} times and does not have it"
