"""What the kernel tells of processes under ``/proc``: state, CPU time, waits for a CPU.

Everything is None, or empty, of a process that is gone and where there is no ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """One process now."""

    state: str
    """As ``ps`` shows it: ``R`` runs or waits for a CPU, ``T`` is stopped, ``Z`` is dead."""
    parent: int
    started_ticks: int
    """Since boot. With its number, it tells a process from a later one of that number."""
    cpu_s: float
    """Of all its threads, and of those children that have ended and been waited for."""


class Waits(NamedTuple):
    """How long the threads of a process that live now have waited for a CPU."""

    waited_ns: int
    turns: int
    """How often they were given one."""


def stat(pid: int, proc: Path = PROC) -> Stat | None:
    """What is known of process ``pid``."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()  # the name before may hold anything
    if len(fields) < 20:
        return None
    ticks = sum(map(int, fields[11:15]))
    return Stat(fields[0].decode(), int(fields[1]), int(fields[19]), ticks / _TICKS_PER_S)


def is_alive(pid: int, started_ticks: int | None, proc: Path = PROC) -> bool:
    """Whether the process that began at ``started_ticks`` still runs; any of ``pid`` if None."""
    if not (proc / "self").exists():
        return _answers(pid)
    found = stat(pid, proc)
    return found is not None and found.state != "Z" and started_ticks in (None, found.started_ticks)


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def threads(pid: int, proc: Path = PROC) -> list[int]:
    """The threads of ``pid``; without ``/proc``, of this process those that Python knows."""
    with contextlib.suppress(OSError, ValueError):
        return [int(each.name) for each in (proc / str(pid) / "task").iterdir()]
    if pid != os.getpid():
        return []
    return [each.native_id for each in threading.enumerate() if each.native_id is not None]


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """All that ``pid`` has started and that they have, parents before their children."""
    children: dict[int, list[int]] = {}
    for each in _pids(proc):
        if (found := stat(each, proc)) is not None:
            children.setdefault(found.parent, []).append(each)
    found_all = list(children.get(pid, ()))
    for each in found_all:
        found_all.extend(children.get(each, ()))
    return found_all


def cpu_s(pid: int, proc: Path = PROC) -> float | None:
    """CPU seconds of ``pid`` and all its descendants."""
    found = stat(pid, proc)
    if found is None:
        return None
    below = [stat(each, proc) for each in descendants(pid, proc)]
    return found.cpu_s + sum(each.cpu_s for each in below if each is not None)


def waits(pid: int, proc: Path = PROC) -> Waits | None:
    """How long ``pid`` has waited for a CPU; None also where the kernel keeps no account of it."""
    waited_ns = turns = 0
    for thread in threads(pid, proc):
        try:
            text = (proc / str(pid) / "task" / str(thread) / "schedstat").read_text().split()
        except OSError:
            continue
        waited_ns, turns = waited_ns + int(text[1]), turns + int(text[2])
    return Waits(waited_ns, turns) if turns else None


def pid_namespace(proc: Path = PROC) -> str:
    """Within what process numbers mean the same; a container has one of its own."""
    with contextlib.suppress(OSError):
        return os.readlink(proc / "self" / "ns" / "pid")  # noqa: PTH115  it is no path
    return ""


def _pids(proc: Path) -> list[int]:
    try:
        return [int(each.name) for each in proc.iterdir() if each.name.isdecimal()]
    except OSError:
        return []
