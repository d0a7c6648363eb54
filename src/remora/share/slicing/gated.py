"""A best-effort job's operators in pieces, each of which passes the gate by itself.

A hook that is a mode of torch's has to stand below: a piece is an operator to it then, and so is
every run of a rehearsal. What a job waits at the gate is left out of what a piece took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remora.share.slicing.cache import Cache, default_folder
from remora.share.slicing.mode import Sliced
from remora.share.slicing.profiler import Settings
from remora.share.slicing.slicing import Pieces, Slicing


class ClockBesideWaits:
    """The machine's clock, which stands still while the job waits at the gate."""

    def __init__(self, waited_ns: Callable[[], int]) -> None:
        self._waited_ns = waited_ns

    def wall_ns(self) -> int:
        return time.perf_counter_ns() - self._waited_ns()

    def cpu_ns(self) -> int:
        return time.process_time_ns()


class WhenNeeded(Slicing):
    """Slices only while ``runs_whole`` says no."""

    def __init__(self, runs_whole: Callable[[], bool], *args: Any) -> None:
        super().__init__(*args)
        self._runs_whole = runs_whole

    def pieces(
        self, operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Pieces | None:
        return None if self._runs_whole() else super().pieces(operator, args, kwargs)


class Slices:
    """Stands before this thread's operators, and those of autograd's threads for it."""

    def __init__(
        self,
        turnaround_ns: int,
        runs_whole: Callable[[], bool],
        waited_ns: Callable[[], int],
        report: Callable[[str], object],
    ) -> None:
        clock = ClockBesideWaits(waited_ns)
        self._runs_whole, self._ended = runs_whole, False
        slicing = WhenNeeded(
            lambda: self._ended or self._runs_whole(),
            *(Settings(turnaround_ns=turnaround_ns), Cache(default_folder()), clock, report),
        )
        self._mode = Sliced(slicing, None, clock)
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Cut nothing any more. If the program has entered a mode since, it stays below that."""
        from torch._C import _get_dispatch_stack_at, _len_torch_dispatch_stack

        self._ended = True
        depth = _len_torch_dispatch_stack()
        if depth and _get_dispatch_stack_at(depth - 1) is self._mode:
            self._mode.__exit__(None, None, None)
