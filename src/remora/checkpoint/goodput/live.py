"""Live mode: a real job, really killed and restarted on a schedule, and what it got done.

The clock and the way to start a process are passed in. The job says what it did in a progress file
(:mod:`~remora.checkpoint.goodput.progress`) and resumes by itself from its last checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Protocol

from remora.checkpoint.goodput.progress import Finished, read_progress
from remora.core.errors import BadValue, ScriptUnusable

_NS = 1e9


class Process(Protocol):
    """A job that was started."""

    def wait(self, timeout: float) -> int | None:
        """Its exit status once it is over, or None after ``timeout`` seconds."""
        ...

    def kill(self) -> None:
        """End it and all that it started, at once (SIGKILL), and collect it."""
        ...


class Spawned:
    """A process group of its own, so that a kill reaches the job's children too."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ScriptUnusable(f"{argv[0]}: {error.strerror}; give a command to run") from error

    def wait(self, timeout: float) -> int | None:
        try:
            return self._process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Life:
    """From one start of the job to its end."""

    started_ns: int
    ended_ns: int
    killed: bool
    steps: tuple[Finished, ...]

    @property
    def start_up_s(self) -> float | None:
        """From its start until its first step began, if one was finished: that step taken to be
        as long as the life's others."""
        if len(self.steps) < 2:
            return None
        mean_ns = (self.steps[-1].at_ns - self.steps[0].at_ns) / (len(self.steps) - 1)
        return max(0.0, (self.steps[0].at_ns - self.started_ns - mean_ns) / _NS)


@dataclass(frozen=True)
class Live:
    """A job that was killed and restarted."""

    began_ns: int
    duration_s: float
    """From the first start until the last kill, or until the job was done."""
    lives: tuple[Life, ...]
    done: bool
    """The job ended by itself before the time was up."""

    @property
    def kills_s(self) -> tuple[float, ...]:
        """When it was killed and restarted, in seconds since it began; not the final kill."""
        return tuple((life.ended_ns - self.began_ns) / _NS for life in self.lives[:-1])

    @property
    def steps(self) -> int:
        """Useful ones: how far the job was at the end, from where it began."""
        ran = [life.steps for life in self.lives if life.steps]
        return ran[-1][-1].step - ran[0][0].step + 1 if ran else 0

    @property
    def lost_steps(self) -> int:
        """Finished and undone."""
        return sum(len(life.steps) for life in self.lives) - self.steps

    @property
    def steps_per_hour(self) -> float:
        return self.steps / self.duration_s * 3600


def run_live(
    argv: Sequence[str],
    progress: Path,
    kills_s: Sequence[float],
    duration_s: float,
    *,
    spawn: Callable[[Sequence[str]], Process],
    now_ns: Callable[[], int] = monotonic_ns,
) -> Live:
    """Run the job ``argv`` for ``duration_s`` seconds, killing it at ``kills_s`` since the start.

    Args:
        argv: The job. It must append to ``progress`` and resume where its last checkpoint is.
        progress: Its progress file. What stands in it already is another run's and not counted.
        kills_s: In order. After each the job is started again at once; at the end it is killed for
            good. Those beyond the duration are not reached.
        spawn: Starts ``argv``, as ``lambda argv: Spawned(argv, log)`` does.
        now_ns: Monotonic nanoseconds, of the clock that the progress file is written by.

    Raises:
        BadValue: kills not in order, or no time to run.
        ScriptUnusable: the job cannot be started, or ended by itself with another status than 0.
    """
    if not duration_s > 0 or list(kills_s) != sorted(kills_s) or any(at < 0 for at in kills_s):
        raise BadValue("kills must be in order, from 0 on, and the duration above 0 seconds")
    # By their place, not only by their time: a monotonic clock begins again when a machine does.
    before = len(read_progress(progress))
    spans, began_ns = list[tuple[int, int, bool]](), now_ns()
    for at_s in (*(at for at in kills_s if at < duration_s), duration_s):
        span = _one_life(argv, began_ns + round(at_s * _NS), spawn, now_ns)
        spans.append(span)
        if not span[2]:
            break
    finished = read_progress(progress)[before:]
    lives = tuple(Life(*span, _between(finished, span)) for span in spans)
    return Live(began_ns, (spans[-1][1] - began_ns) / _NS, lives, done=not spans[-1][2])


def _one_life(
    argv: Sequence[str],
    until_ns: int,
    spawn: Callable[[Sequence[str]], Process],
    now_ns: Callable[[], int],
) -> tuple[int, int, bool]:
    """Start the job, kill it at ``until_ns``; when it started and ended, and whether by us."""
    started_ns = now_ns()
    process = spawn(argv)
    status: int | None = None
    try:
        while status is None and (left_ns := until_ns - now_ns()) > 0:
            status = process.wait(left_ns / _NS)
    finally:
        process.kill()
    ended_ns = now_ns()
    if status:
        raise ScriptUnusable(f"{argv[0]} ended by itself with status {status}; see its log")
    return started_ns, ended_ns, status is None


def _between(finished: Sequence[Finished], span: tuple[int, int, bool]) -> tuple[Finished, ...]:
    return tuple(each for each in finished if span[0] < each.at_ns <= span[1])
