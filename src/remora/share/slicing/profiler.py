"""Find how to cut a call: along which axis, and into how many pieces.

After Tally (ASPLOS'25): each configuration that is considered runs 10 times to warm up and 5 times
against the clock, and of those whose pieces keep the bound the cheapest is taken. Two things are
added. Which configurations are worth it is found by short looks, of one run to warm up and three
timed. And only those are considered that give bit for bit what the whole gives.

A piece takes what the shortest of its timed runs took: what disturbs the others is not the piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch

from remora.core.clock import Clock, SystemClock
from remora.core.errors import BadValue
from remora.share.slicing.contract import WHOLE, Axis, Part
from remora.share.slicing.profile import Choice, Profile, told
from remora.share.slicing.rehearsal import Rehearsal

T = TypeVar("T")
WARM_UPS, TIMED = 10, 5
"""As published."""
_LOOK_WARM_UPS, _LOOK_TIMED = 1, 3
_LOOKS = 6
"""Numbers of pieces that are tried along one axis before it is left as it is."""
_HOPELESS = 1.5
"""An axis that costs this many times the best is not tried further."""
_ROOM = 0.95
"""A piece is to take no more than this share of the bound: the next may take a little longer."""
_ODD, _MORE = 1.5, 4
"""Where the longest piece takes so many times what the usual one takes, it is looked at so many
times more: of thousands of pieces some are disturbed every time."""
_CLOSE = 1.1
"""Axes that seem this close to the cheapest are measured in full beside it."""


@dataclass(frozen=True)
class Settings:
    """What is wanted of a cut.

    Raises:
        BadValue: a turnaround of nothing, or a number of threads below 1.
    """

    turnaround_ns: int = 1_000_000
    """How long a piece may take. The default of 1 ms is what operators of a CPU can be cut to
    cheaply; on an accelerator the published bound is 0.1 ms."""
    exact: bool = True
    """Whether pieces must be bit-identical to the whole."""
    threads: tuple[int, ...] = ()
    """Numbers of threads that pieces may be run with, beside the number in use."""
    warm_ups: int = WARM_UPS
    timed: int = TIMED
    patience_ns: int = 200_000_000
    """When warm-ups have taken so long, the rest is left out; and of timed runs all but two are."""

    def __post_init__(self) -> None:
        if self.turnaround_ns <= 0:
            raise BadValue(
                f"turnaround={self.turnaround_ns} ns: no piece is that short; choose 0.1ms or more"
            )
        if min((*self.threads, self.timed)) < 1 or self.warm_ups < 0:
            raise BadValue("threads and timed runs must be 1 or more, warm-ups 0 or more")


def profile(
    operator: Any,
    values: Mapping[str, Any],
    device: torch.device,
    settings: Settings | None = None,
    clock: Clock | None = None,
) -> Profile:
    """How to cut this call, found on its own data. Nothing that it writes to is changed.

    It needs memory for the results twice, and for what the call writes to twice more.
    """
    settings = settings or Settings()
    of_device = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(of_device):
        clock = clock or SystemClock()
        rehearsal = Rehearsal(operator, values, device, clock)
        return _Search(rehearsal, settings, clock).profile()


class _Search:
    """The search for one call."""

    def __init__(self, rehearsal: Rehearsal, settings: Settings, clock: Clock) -> None:
        self._rehearsal, self._settings, self._clock = rehearsal, settings, clock
        self._inexact: dict[str, float] = {}

    def profile(self) -> Profile:
        whole_ns = self._whole_ns()
        settings, rehearsal = self._settings, self._rehearsal
        if whole_ns <= settings.turnaround_ns:
            return Profile(whole_ns, settings.turnaround_ns, rehearsal.layouts)
        parts = rehearsal.wanted
        if not parts:
            return self._uncut(whole_ns, "tensors that lie so cannot be cut")
        chosen = [
            self._choice(place, part, whole_ns // len(parts)) for place, part in enumerate(parts)
        ]
        choices = tuple(choice for choice in chosen if choice is not None)
        if len(choices) < len(chosen) or all(choice.pieces == 1 for choice in choices):
            return self._uncut(whole_ns, self._why())
        found = Profile(
            whole_ns, settings.turnaround_ns, rehearsal.layouts, choices, "", self._inexact
        )
        if found.keeps_bound:
            return found
        reason = f"its shortest cut has pieces of {found.piece_ns / 1e6:.2f} ms"
        return Profile(
            whole_ns, settings.turnaround_ns, rehearsal.layouts, choices, reason, self._inexact
        )

    def _uncut(self, whole_ns: int, reason: str) -> Profile:
        layouts = self._rehearsal.layouts
        bound_ns = self._settings.turnaround_ns
        return Profile(whole_ns, bound_ns, layouts, (), reason, self._inexact)

    def _why(self) -> str:
        if self._inexact:
            return f"cut along {told(self._inexact)} it is not the same bit for bit"
        return "its parts have one index each"

    def _whole_ns(self) -> int:
        run = self._rehearsal.time_whole
        run()
        if (once_ns := run()) <= self._settings.turnaround_ns // 2:
            return once_ns
        return min(self._repeated(run, self._settings.warm_ups, self._settings.timed))

    # ------------------------------------------------- one part

    def _choice(self, place: int, part: Part, part_ns: int) -> Choice | None:
        """The cheapest that keeps the bound, else the one of the shortest pieces; None where
        nothing is exact, not even the part by itself."""
        looks: list[Choice] = []
        for axis in part.axes:
            best = min(looks, key=self._rank, default=None)
            if (look := self._look(place, part, axis, part_ns, best)) is not None:
                looks.append(look)
        looks.sort(key=self._rank)
        near = [each for each in looks[1:] if self._rank(each)[:2] <= self._rank(looks[0])[:2]
                and each.total_ns <= looks[0].total_ns * _CLOSE]  # fmt: skip
        measured = [self._measured(place, part, each) for each in (*looks[:1], *near)]
        exact = [each for each in measured if self._passes(each.difference)]
        return min(exact, key=self._rank) if exact else self._by_itself(place, part)

    def _rank(self, choice: Choice) -> tuple[bool, int, int]:
        """Smaller is better."""
        is_late = choice.piece_ns > self._settings.turnaround_ns
        return is_late, choice.piece_ns if is_late else 0, choice.total_ns

    def _by_itself(self, place: int, part: Part) -> Choice | None:
        """The whole part as one piece, if that is what the operator gives."""
        axis = part.axes[0]
        difference = self._difference(place, axis, 1)
        if not self._passes(difference):
            return None
        return _with(self._look_at(place, axis, 1), difference)

    def _look(
        self, place: int, part: Part, axis: Axis, part_ns: int, best: Choice | None
    ) -> Choice | None:
        """About the fewest pieces that keep the bound; None where they are not the same."""
        room_ns = self._settings.turnaround_ns * _ROOM
        pieces = min(axis.most, _ceil(part_ns / room_ns))
        difference = self._difference(place, axis, pieces)
        if difference and axis.name != WHOLE:
            self._inexact[f"{part.name}, {axis.name}"] = difference
        if not self._passes(difference):
            return None
        seen = self._look_at(place, axis, pieces)
        for _ in range(_LOOKS):
            if seen.piece_ns <= room_ns or seen.pieces >= axis.most:
                break
            if best is not None and seen.total_ns > best.total_ns * _HOPELESS:
                break
            growth = min(2.0, seen.piece_ns / room_ns)
            pieces = min(axis.most, max(seen.pieces + 1, _ceil(seen.pieces * growth)))
            seen = self._look_at(place, axis, pieces)
        return _with(seen, difference)

    def _measured(self, place: int, part: Part, look: Choice) -> Choice:
        """In full; with a few pieces more where the longest proves too long."""
        axis, pieces, settings = part.axis(look.axis), look.pieces, self._settings
        found = self._timed(place, axis, pieces, settings.warm_ups, settings.timed)
        for _ in range(2):
            if found.piece_ns <= settings.turnaround_ns or pieces >= axis.most:
                break
            growth = min(2.0, found.piece_ns / settings.turnaround_ns / _ROOM)
            pieces = min(axis.most, max(pieces + 1, _ceil(pieces * growth)))
            found = self._timed(place, axis, pieces, settings.warm_ups, settings.timed)
        return _with(found, self._difference(place, axis, pieces))

    def _look_at(self, place: int, axis: Axis, pieces: int) -> Choice:
        return self._timed(place, axis, pieces, _LOOK_WARM_UPS, _LOOK_TIMED)

    def _timed(self, place: int, axis: Axis, pieces: int, warm_ups: int, timed: int) -> Choice:
        runs = self._repeated(
            lambda: self._rehearsal.time_pieces(place, axis.name, pieces), warm_ups, timed
        )
        each_ns = [min(times) for times in zip(*runs, strict=True)]
        for _ in range(_MORE):
            if max(each_ns) <= _ODD * median(each_ns):
                break
            again = self._rehearsal.time_pieces(place, axis.name, pieces)
            each_ns = [min(times) for times in zip(each_ns, again, strict=True)]
        return Choice(axis.name, pieces, max(each_ns), sum(each_ns))

    def _repeated(self, run: Callable[[], T], warm_ups: int, timed: int) -> list[T]:
        """What ``timed`` runs gave, or fewer where they are long."""
        began_ns, patience_ns = self._clock.wall_ns(), self._settings.patience_ns
        for _ in range(warm_ups):
            run()
            if self._clock.wall_ns() - began_ns > patience_ns:
                break
        began_ns, given = self._clock.wall_ns(), [run()]
        while len(given) < timed:
            if len(given) > 1 and self._clock.wall_ns() - began_ns > patience_ns:
                break
            given.append(run())
        return given

    def _passes(self, difference: float) -> bool:
        return not difference or not self._settings.exact

    def _difference(self, place: int, axis: Axis, pieces: int) -> float:
        """The largest, over all numbers of threads in use."""
        largest = self._rehearsal.difference(place, axis.name, pieces)
        for threads in self._settings.threads:
            with threads_set(threads):
                again = self._rehearsal.difference(place, axis.name, pieces)
            largest = max(largest, again)
        return largest


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with(choice: Choice, difference: float) -> Choice:
    return Choice(choice.axis, choice.pieces, choice.piece_ns, choice.total_ns, difference)


def _ceil(number: float) -> int:
    return -int(-number // 1)
