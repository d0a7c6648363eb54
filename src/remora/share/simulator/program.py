"""One simulated program: which unit it wants next, and when its requests came and went."""

from __future__ import annotations

import numpy as np

from remora.share.policies.contract import Run, Unit
from remora.share.simulator.jobs import Job
from remora.share.simulator.results import JobResult


class Program:
    """The state of a job while it is simulated.

    It has at most one unit waiting or in flight, as a program has that needs each result for what
    comes next; so the same few units are submitted again and again, and nothing is made anew.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_open_loop = job.arrivals_ns is not None
        self.arrivals: list[int] = [] if job.arrivals_ns is None else job.arrivals_ns.tolist()
        self.came = 0
        self.began: list[int] = []
        self.finished: list[int] = []
        self.is_busy = False
        self.at = 0
        """Which unit of the request is next."""
        self.units_done, self.useful_ns, self.device_ns = 0, 0, 0
        self._units = [self._unit(index, None) for index in range(len(job.pieces))]
        self._rows = None if job.durations_ns is None else job.durations_ns.tolist()

    def begin(self, now_ns: int) -> Unit:
        """Turn to the next request: its first unit."""
        self.is_busy, self.at = True, 0
        if not self.is_open_loop:
            self.arrivals.append(now_ns)
        self.began.append(now_ns)
        return self.unit()

    def unit(self) -> Unit:
        """The unit that is next."""
        if self.job.deadline_ns is None:
            return self._units[self.at]
        return self._unit(self.at, self.arrivals[len(self.began) - 1] + self.job.deadline_ns)

    def duration_ns(self, run: Run) -> int:
        """How long ``run`` takes alone: as expected, or by as much more or less as its unit."""
        if self._rows is None:
            return run.expected_ns
        return round(run.expected_ns * self._true_ns() / run.unit.expected_ns)

    def over(self, run: Run, used_ns: int, now_ns: int) -> bool:
        """``run`` is done. Whether the program goes on to its next unit or request: it may still
        have pieces of this unit with the policy."""
        self.device_ns += used_ns
        if run.end < run.pieces:
            return False
        self.units_done += 1
        expected_ns = self.job.pieces[self.at].expected_ns
        self.useful_ns += expected_ns if self._rows is None else self._true_ns()
        self.at += 1
        if self.at == len(self._units):
            self.finished.append(now_ns)
            self.is_busy = False
        return True

    def has_more(self) -> bool:
        """Whether a request waits for the program."""
        return not self.is_open_loop or len(self.began) < self.came

    def result(self, duration_ns: int) -> JobResult:
        arrivals = np.array(self.arrivals, dtype=np.int64)
        arrivals = arrivals[arrivals < duration_ns]
        return JobResult(
            name=self.job.name,
            priority=self.job.priority,
            duration_ns=duration_ns,
            arrivals_ns=arrivals,
            began_ns=_padded(self.began, arrivals.size),
            finished_ns=_padded(self.finished, arrivals.size),
            is_open_loop=self.is_open_loop,
            units_done=self.units_done,
            useful_ns=self.useful_ns,
            device_ns=self.device_ns,
        )

    def _true_ns(self) -> int:
        rows = self._rows or []
        true_ns: int = rows[(len(self.began) - 1) % len(rows)][self.at]
        return true_ns

    def _unit(self, index: int, deadline_ns: int | None) -> Unit:
        piece = self.job.pieces[index]
        return Unit(
            self.job.name, self.job.priority, piece.expected_ns, deadline_ns, piece.resource,
            piece.cuts,
        )  # fmt: skip


def _padded(moments: list[int], size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    padded = np.full(size, -1, dtype=np.int64)
    padded[: len(moments)] = moments
    return padded
