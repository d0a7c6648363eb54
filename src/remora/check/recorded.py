"""Recorded runs, ours and TrainCheck's, played into a sink as one kind of thing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from remora.check.ranks.meeting import Meeting, Room
from remora.check.sink import Sink
from remora.check.trace.layout import files_of, rank_of
from remora.check.trace.replay import Replayed, replay
from remora.check.traincheck import replay as theirs
from remora.check.traincheck.records import is_trace


@dataclass(frozen=True)
class Played:
    """What a recorded run was."""

    program: str
    steps: int
    torch: str | None = None
    """Its version; None where that is not told."""
    remarks: tuple[str, ...] = ()
    """What of it may surprise: how it ended, what is missing."""


@dataclass(frozen=True)
class Recorded(ABC):
    """One process of a recorded run, or all of them where they are not told apart."""

    path: Path
    called: str
    """As the user knows it: the folder, or the file where it holds several."""

    @property
    def rank(self) -> int:
        return 0

    @abstractmethod
    def play(self, sink: Sink) -> Played:
        """Feed every event to ``sink``.

        Raises:
            TraceUnusable: it cannot be read, or is damaged; file and line are named.
        """


class OurProcess(Recorded):
    """One file of a trace of ours."""

    @property
    def rank(self) -> int:
        return rank_of(self.path)

    def play(self, sink: Sink) -> Played:
        played = replay(self.path, sink)
        header = played.header
        return Played(header.program, played.steps, header.torch, _how_it_ended(self, played))


class TheirRun(Recorded):
    """A trace of TrainCheck's, all its processes."""

    def play(self, sink: Sink) -> Played:
        import torch  # noqa: F401  names the parameters that their records count

        played = theirs.replay(self.path, sink)
        return Played(self.path.name, played.steps, remarks=tuple(_of_theirs(self, played)))


class Seated(NamedTuple):
    """A run, or one rank of a job of several and where it meets the others, which come next."""

    run: Recorded
    meeting: Meeting | None


def runs_in(places: Iterable[Path]) -> list[Seated]:
    """What is recorded at each of ``places``: folders, of ours or TrainCheck's, or files of its.

    Raises:
        TraceUnusable: there is no trace.
    """
    return [one for place in places for one in _seated(_at(place))]


def _seated(job: list[Recorded]) -> list[Seated]:
    """Ranks that were started anew do not meet: which of their files go together is not known."""
    ranks = {one.rank for one in job}
    room = Room(len(job)) if len(ranks) == len(job) > 1 else None
    return [Seated(one, room.seat(one.rank) if room is not None else None) for one in job]


def _at(place: Path) -> list[Recorded]:
    if is_trace(place):
        return [TheirRun(place, str(place))]
    files = files_of(place)
    if len(files) == 1:
        return [OurProcess(files[0], str(place))]
    return [OurProcess(path, str(path)) for path in files]


def _how_it_ended(run: Recorded, played: Replayed) -> tuple[str, ...]:
    if played.ended and not played.exit_code:
        return ()
    cut = ", its last line cut short" if played.cut else ""
    how = f"ended with exit code {played.exit_code}" if played.ended else f"was killed{cut}"
    return (f"{run.called}: the recorded process {how}; what it did until then counts",)


def _of_theirs(run: Recorded, played: theirs.Replayed) -> Iterable[str]:
    yield from played.warnings
    for number, what in (
        (played.unfinished, "calls never ended, and are judged by nothing"),
        (played.unmatched, "calls end that never began, and are passed over"),
    ):
        if number:
            yield f"{run.called}: {number:,} {what}"
