"""Ways to give a trial a process of its own: spawned, forked warm, or none (to debug)."""

from __future__ import annotations

from collections.abc import Sequence

from remora.core.errors import UnknownName
from remora.lab.executors.contract import Ended, Executor
from remora.lab.executors.forkserver import ForkserverExecutor
from remora.lab.executors.in_process import InProcessExecutor
from remora.lab.executors.spawn import SpawnExecutor

__all__ = ["EXECUTORS", "Ended", "Executor", "create"]

EXECUTORS = ("spawn", "forkserver", "in-process")


def create(name: str, *, threads: int, preload: Sequence[str] = ()) -> Executor:
    """The executor ``name``; ``preload`` are modules a forkserver imports before it forks."""
    if name == "spawn":
        return SpawnExecutor(threads)
    if name == "forkserver":
        return ForkserverExecutor(threads, preload)
    if name == "in-process":
        return InProcessExecutor()
    raise UnknownName("executor", name, EXECUTORS)
