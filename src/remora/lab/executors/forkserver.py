"""Trials forked from one server that has imported torch: fresh processes without the import."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from remora.lab.executors.contract import Ended, Executor, kill_session, thread_environment
from remora.lab.worker import Job, die_with_parent, redirect_output
from remora.lab.worker import run as run_job

PRELOADED = ("torch", "remora.lab.measure")


def _child(job: Job) -> None:
    """In the forked process: a session of its own, its output in the log, one job, the exit."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    redirect_output(job.log)
    parent = multiprocessing.parent_process()
    if parent is not None:
        die_with_parent(parent.sentinel)
    sys.exit(run_job(job))


def _nothing() -> None:
    """The first child: its start brings the server up, outside any trial's clock."""


@contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class ForkserverExecutor(Executor):
    """Forks every trial from :mod:`multiprocessing`'s fork server.

    The server keeps the environment it was started with, so threads are fixed for its life.
    """

    name: ClassVar[str] = "forkserver"

    def __init__(self, threads: int, preload: Sequence[str] = ()) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOADED, *preload])
        with _environment(thread_environment(threads)):
            first = self._context.Process(target=_nothing)
            first.start()
        first.join()

    def run(self, job: Job, timeout_s: float) -> Ended:
        process = self._context.Process(target=_child, args=(job,))
        process.start()
        try:
            process.join(timeout_s)
            timed_out = process.exitcode is None
        finally:
            kill_session(process.pid)
            process.kill()
            process.join()
        exit_code = process.exitcode if process.exitcode is not None else -signal.SIGKILL
        process.close()
        return Ended(exit_code, timed_out=timed_out)
