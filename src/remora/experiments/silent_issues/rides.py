"""Run a program with a service aboard, in processes that end when they should.

Each is forked from one server that has imported torch, leads a session of its own, and is killed
with all it started when it, or another rank of the same run, fails or takes too long.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from remora.lab.executors.contract import kill_session, thread_environment
from remora.lab.worker import redirect_output
from remora.tap.service import Service

PRELOADED = ("torch", "remora.check.services", "remora.tap.launch")
TIMEOUT_S = 180.0

Aboard = Callable[[int], Service]
"""The service that rides with a rank; it has to be picklable."""


class RideFailed(RuntimeError):
    """A program that did not end as it should; the message has its last line."""


class Rides:
    """Starts processes. Rides may go on in several threads at once."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))

    def ride(self, script: Sequence[str], aboard: Aboard, log: Path, ranks: int = 1) -> None:
        """Run ``script`` (a path and its arguments) to its end; what it prints goes to ``log``.

        Raises:
            RideFailed: it exits with another code than 0, or takes too long.
        """
        logs = [log.with_suffix(f".rank{rank}.log") for rank in range(ranks)]
        placed = _places(ranks)
        processes = [
            self._context.Process(target=_child, args=(list(script), aboard, rank, env, str(log)))
            for rank, (env, log) in enumerate(zip(placed, logs, strict=True))
        ]
        try:
            for one in processes:
                one.start()
            _all_ended(processes, self._timeout_s)
            codes = [one.exitcode for one in processes]
        finally:
            for one in processes:
                _end(one)
        failed = sorted(zip(codes, logs, strict=True), key=lambda one: one[0] is None)
        for code, file in failed:  # one that was stopped for another's sake comes after it
            if code != 0:
                raise RideFailed(_why(code, file, self._timeout_s))


def _all_ended(processes: Sequence[BaseProcess], timeout_s: float) -> None:
    """Wait until all have ended, or one has failed, or time is up."""
    deadline = time.monotonic() + timeout_s
    while any(one.exitcode is None for one in processes):
        running = [one.sentinel for one in processes if one.exitcode is None]
        if not wait(running, max(0.0, deadline - time.monotonic())):
            break
        if any(one.exitcode for one in processes):
            break


def _end(process: BaseProcess) -> None:
    if process.pid is not None:
        kill_session(process.pid)
        process.kill()
        process.join()


def _why(code: int | None, log: Path, timeout_s: float) -> str:
    if code is None:
        return f"it takes more than {timeout_s:g} s"
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"exit code {code}: {said[-1] if said else 'it said nothing'}"


def _child(
    script: list[str], aboard: Aboard, rank: int, environment: dict[str, str], log: str
) -> None:
    os.setsid()
    redirect_output(log)
    os.environ.update(environment)
    # How the program starts its workers is its own choice, not ours.
    multiprocessing.set_start_method(None, force=True)
    from remora.tap.launch import run_script

    sys.exit(run_script(script, [aboard(rank)]))


def _places(ranks: int) -> list[dict[str, str]]:
    """The environment of each rank, as torchrun gives it."""
    base = thread_environment(1)
    if ranks == 1:
        return [base]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = base | {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
