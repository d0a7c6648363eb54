"""Priority with slices: best-effort units are cut so that none has the device for long.

The bound on the turnaround is how long a high-priority unit may find the device taken. Of the cuts
that a unit has (measured by whoever knows its operator), the one of fewest pieces is taken that
keeps the bound: every further cut costs. Once high-priority work has been absent for a while,
units run whole. The mechanism is Tally's (ASPLOS'25).
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.core.errors import BadValue
from remora.share.policies.contract import Cut, Run, Unit, whole
from remora.share.policies.min_wait import MinWait, MinWaitOptions


@dataclass(frozen=True)
class SlicingOptions(MinWaitOptions):
    """How fine, and for how long."""

    turnaround_ns: int = 100_000
    """How long a best-effort run may last: the published bound of 0.1 ms."""
    unsliced_after_ns: int = 100_000_000
    """How long high-priority work has been absent when units run whole again: the published 100 ms,
    by when whoever comes is not in the middle of anything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.turnaround_ns <= 0:
            raise BadValue(
                f"turnaround={self.turnaround_ns} ns: no run is that short; choose a bound of at "
                "least the shortest slice, such as 0.1ms"
            )
        if self.unsliced_after_ns < self.min_wait_ns:
            raise BadValue(
                f"unsliced_after={self.unsliced_after_ns} ns ends before "
                f"min_wait={self.min_wait_ns} ns, so nothing would be sliced; "
                "choose more, or the policy priority+min-wait"
            )


class PrioritySlicing(MinWait):
    """Best-effort units in slices, each a decision of its own."""

    name = "priority+slicing"
    title = "high priority first, best effort in slices"
    options_type = SlicingOptions

    def __init__(self, options: SlicingOptions | None = None, *, capacity: int = 1) -> None:
        super().__init__(options, capacity=capacity)
        options = options or SlicingOptions()
        self._turnaround_ns = options.turnaround_ns
        self._unsliced_after_ns = options.unsliced_after_ns
        self._begun: dict[Unit, Run] = {}
        """The last run of each unit that is not done."""

    def longest_run_ns(self, unit: Unit, absent_ns: int = 0) -> int:
        cut, _ = self._cut(unit)
        if absent_ns < self._unsliced_after_ns:
            return cut.piece_ns
        # All that is left of a unit that was begun in slices may take longer than the whole.
        return max(unit.expected_ns, (cut.pieces - 1) * cut.piece_ns)

    def _best_effort_run(self, unit: Unit, now_ns: int) -> Run:
        absent_ns = self._high_absent_ns(now_ns)
        is_alone = absent_ns is None or absent_ns >= self._unsliced_after_ns
        before = self._begun.get(unit)
        if before is not None:
            return self._more(before, is_alone)
        if is_alone:
            return whole(unit)
        cut, keeps_bound = self._cut(unit)
        return Run(unit, 0, 1, cut.pieces, cut.piece_ns, keeps_bound)

    def _more(self, before: Run, is_alone: bool) -> Run:
        """The next piece of a unit, or all that is left of it."""
        end = before.pieces if is_alone else before.end + 1
        piece_ns = before.expected_ns // (before.end - before.begin)
        expected_ns = piece_ns * (end - before.end)
        return Run(before.unit, before.end, end, before.pieces, expected_ns, before.within_bound)

    def _cut(self, unit: Unit) -> tuple[Cut, bool]:
        """The cut of fewest pieces that keeps the bound, or else of the shortest; and whether."""
        uncut = Cut(1, unit.expected_ns)
        if 0 < unit.expected_ns <= self._turnaround_ns:
            return uncut, True
        for cut in unit.cuts:
            if cut.piece_ns <= self._turnaround_ns:
                return cut, True
        if not unit.expected_ns and not unit.cuts:
            return uncut, False
        return min((*unit.cuts, uncut), key=lambda cut: cut.piece_ns or _UNKNOWN_NS), False

    def _take(self, run: Run, now_ns: int) -> None:
        super()._take(run, now_ns)
        if run.pieces == 1:
            return
        if run.is_last:
            self._begun.pop(run.unit, None)
        else:
            self._begun[run.unit] = run

    def _drop(self, job: str, now_ns: int) -> None:
        super()._drop(job, now_ns)
        self._begun = {unit: run for unit, run in self._begun.items() if unit.job != job}


_UNKNOWN_NS = 1 << 62
"""A unit of unknown length is taken for longer than any of its slices."""
