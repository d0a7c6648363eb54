"""The process of one trial: reads its job, measures, writes one file, and dies with its parent."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from remora.core.files import write_atomically
from remora.lab.results import Failure, Trial, TrialSpec

ORPHANED = 70
"""Exit code of a worker whose parent went away."""


class Job(msgspec.Struct, frozen=True):
    """What a worker is handed."""

    spec: TrialSpec
    result: str
    """Where the :class:`Trial` goes."""
    log: str
    log_name: str
    """The log's path as the results folder knows it."""
    scratch: str
    asked_ns: int
    """``time.perf_counter_ns`` of the parent as it asked for this process."""
    kept: str = ""
    """The folder for what systems make once for all trials of the workload."""
    only_prepare: bool = False
    """Make that, and measure nothing."""


def run(job: Job) -> int:
    """Measure and write the trial; returns the exit code.

    A trial that raises is written as failed: the file always says what happened. So is one whose
    preparation raises; one that went well leaves no trial.
    """
    entered_ns = time.perf_counter_ns()
    try:
        if job.only_prepare:
            _prepare(job)
            return 0
        trial = _measure(job, entered_ns)
    except Exception as error:
        traceback.print_exc()
        trial = failed(job.spec, _kind(error), _first_line(error), job.log_name)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    write_atomically(Path(job.result), msgspec.json.encode(trial))
    return 0 if trial.failure is None else 1


def _measure(job: Job, entered_ns: int) -> Trial:
    from remora.core.clock import SystemClock
    from remora.lab.measure import measure  # torch is imported here, under the clock

    return measure(
        job.spec,
        Path(job.scratch),
        SystemClock(),
        asked_ns=job.asked_ns,
        entered_ns=entered_ns,
        kept=Path(job.kept),
    )


def _prepare(job: Job) -> None:
    from remora.core.clock import SystemClock
    from remora.lab.measure import prepare

    prepare(job.spec, Path(job.kept), SystemClock())


def failed(spec: TrialSpec, kind: str, message: str, log_name: str) -> Trial:
    """A trial that has no samples, and why."""
    failure = msgspec.convert({"kind": kind, "message": message, "log": log_name}, Failure)
    return Trial(
        spec=spec, started=datetime.now(UTC).isoformat(timespec="milliseconds"), failure=failure
    )


def _kind(error: Exception) -> str:
    """``out-of-memory`` when that is what the error says, else ``raised``."""
    words = f"{type(error).__name__} {error}".lower()
    signs = ("memoryerror", "outofmemory", "out of memory", "can't allocate memory")
    return "out-of-memory" if any(sign in words for sign in signs) else "raised"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def redirect_output(log: str) -> None:
    """Send this process's stdout and stderr, C libraries included, to ``log``."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def die_with_parent(descriptor: int) -> None:
    """Exit at once when the other end of the pipe ``descriptor`` closes."""

    def watch() -> None:
        os.read(descriptor, 1)
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="remora-parent-watch", daemon=True).start()


def main() -> int:
    """``python -m remora.lab.worker``: the job as JSON on standard input, which then stays open."""
    line = sys.stdin.buffer.readline()
    job = msgspec.json.decode(line, type=Job)
    redirect_output(job.log)
    die_with_parent(sys.stdin.fileno())
    return run(job)


if __name__ == "__main__":
    sys.exit(main())
