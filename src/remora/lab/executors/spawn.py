"""A new interpreter for every trial: nothing is shared, and start-up is paid in full."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import ClassVar

import msgspec

from remora.lab.executors.contract import Ended, Executor, kill_session, thread_environment
from remora.lab.worker import Job


class SpawnExecutor(Executor):
    """Runs ``python -m remora.lab.worker`` in a session of its own."""

    name: ClassVar[str] = "spawn"

    def __init__(self, threads: int) -> None:
        self._environment = os.environ | thread_environment(threads)

    def run(self, job: Job, timeout_s: float) -> Ended:
        with open(job.log, "wb") as log:  # noqa: PTH123  a plain path string from the job
            process = subprocess.Popen(
                [sys.executable, "-m", "remora.lab.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        try:
            return self._converse(process, job, timeout_s)
        finally:
            kill_session(process.pid)
            process.wait()
            if process.stdin:
                with suppress(BrokenPipeError):
                    process.stdin.close()

    @staticmethod
    def _converse(process: subprocess.Popen[bytes], job: Job, timeout_s: float) -> Ended:
        """Hand the job over and wait. The pipe stays open: the worker dies when it closes."""
        if process.stdin is None:
            raise ValueError("the worker has no standard input")
        try:
            process.stdin.write(msgspec.json.encode(job) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return Ended(process.wait())
        try:
            return Ended(process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            kill_session(process.pid)
            return Ended(process.wait(), timed_out=True)
