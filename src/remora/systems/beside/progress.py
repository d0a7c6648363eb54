"""How far a job in another process is: its steps, in memory that both processes map.

A step takes long against the time that is measured, so a count of whole steps is coarse. What is
done of the one in the making is told from the CPU time that its process has used for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MOST_STEPS = 2**20
"""Of which the ends can be kept: 16 bytes each, in a file that takes no more than is written."""
BUILDING, READY, GOING = 0, 1, 2
_STATE, _COUNT, _HEAD = 0, 1, 2


class Progress:
    """The job's side writes, and whoever measures it reads.

    Args:
        path: of the file that both map.
        is_new: make it; else it is there.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        shape = (_HEAD + 2 * MOST_STEPS,)
        self._cells = np.memmap(path, np.int64, "w+" if is_new else "r+", shape=shape)

    @property
    def state(self) -> int:
        return int(self._cells[_STATE])

    @state.setter
    def state(self, value: int) -> None:
        self._cells[_STATE] = value

    def add(self, wall_ns: int, worked_ns: int) -> None:
        """A step has ended; the first entry is the beginning of the first step.

        Raises:
            IndexError: more steps than can be kept.
        """
        count = int(self._cells[_COUNT])
        if count == MOST_STEPS:
            raise IndexError(f"more than {MOST_STEPS:,} steps; choose a shorter time")
        self._cells[_HEAD + 2 * count : _HEAD + 2 * count + 2] = wall_ns, worked_ns
        self._cells[_COUNT] = count + 1  # last, so that a reader never sees half an entry

    def ends(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Of the beginning and each step that ended: wall time and work, shape (steps + 1, 2)."""
        count = int(self._cells[_COUNT])
        return np.array(self._cells[_HEAD : _HEAD + 2 * count]).reshape(count, 2)


def steps_done(
    ends: np.ndarray[tuple[int, int], np.dtype[np.int64]], worked_ns: int, ns_per_step: float
) -> float:
    """Steps and the part of the next that ``worked_ns``, all work so far, has paid for."""
    begun_ns = worked_ns - int(ends[-1, 1])
    part = begun_ns / ns_per_step if ns_per_step > 0 else 0.0
    return len(ends) - 1 + min(max(part, 0.0), 1.0)


def cpu_clock_of(pid: int) -> Callable[[], int]:
    """A reader of the CPU time of another process, all its threads (clock_getcpuclockid(3))."""
    number = (~pid << 3) | 2
    return lambda: time.clock_gettime_ns(number)
