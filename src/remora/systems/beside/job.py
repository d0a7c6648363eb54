"""The best-effort job of a trial, as the process that serves sees it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from remora.core.errors import Unavailable
from remora.systems.beside.order import Order
from remora.systems.beside.progress import GOING, READY, Progress, steps_done
from remora.systems.beside.worker import reason_path

_LOOK_S = 0.01
_END_S = 10.0
LEAST_STEPS_ALONE = 3
"""Of the best-effort job alone: fewer say little of its rate."""


class Reading(NamedTuple):
    """How far a best-effort job is at a moment."""

    begun_ns: int
    """When it began its first step, on the same clock."""
    at_ns: int
    steps: float
    worked_ns: int
    """How long the shared cores have worked for it."""


class BestEffort(Protocol):
    """A best-effort job that a ride has beside it."""

    def run_alone(self, seconds: float) -> None:
        """Let it begin, and return when it has run alone for so long."""

    def read(self) -> Reading:
        """How far it is now."""

    def check(self) -> None:
        """Raises:
        Unavailable: it has ended, as it never should.
        """

    def peak_rss_bytes(self) -> int:
        """Most memory that it had resident at once."""

    def close(self) -> None:
        """End it. May be called again."""


class BestEffortProcess:
    """A job that was started, builds its workload meanwhile, and then waits for the word.

    Args:
        worked: gives, for its process, a reader of how long the shared cores have worked for it.
    """

    def __init__(
        self,
        order: Order,
        worked: Callable[[int], Callable[[], int]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._order, self._sleep = order, sleep
        self._progress = Progress(Path(order.progress), is_new=True)
        command = [sys.executable, "-m", "remora.systems.beside.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2)
        self._worked_ns = worked(self._process.pid)
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()

    def wait_ready(self) -> None:
        """Return when it is built and warmed up."""
        self._wait_until(lambda: self._progress.state == READY)

    def run_alone(self, seconds: float) -> None:
        self.wait_ready()
        self._progress.state = GOING
        until_ns = time.perf_counter_ns() + round(seconds * 1e9)
        self._wait_until(
            lambda: (
                time.perf_counter_ns() >= until_ns
                and len(self._progress.ends()) > LEAST_STEPS_ALONE
            )
        )

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self.check()
            self._sleep(_LOOK_S)

    def read(self) -> Reading:
        ends, worked_ns = self._progress.ends(), self._worked_ns()
        per_step = (int(ends[-1, 1]) - int(ends[0, 1])) / max(1, len(ends) - 1)
        done = steps_done(ends, worked_ns, per_step)
        return Reading(int(ends[0, 0]), time.perf_counter_ns(), done, worked_ns)

    def check(self) -> None:
        code = self._process.poll()
        if code is not None:
            reason = reason_path(self._order)
            why = reason.read_text() if reason.exists() else "the trial's log says why"
            raise Unavailable(
                f"the best-effort job {self._order.workload} ended (exit code {code}) when it was "
                f"to train on: {why}"
            )

    def peak_rss_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next((each for each in status.splitlines() if each.startswith("VmHWM:")), "VmHWM: 0")
        return int(line.split()[1]) * 1024

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
