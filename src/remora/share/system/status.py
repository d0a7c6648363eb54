"""What goes on now among the jobs in the roster, as data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from remora.share.gate.device import has_nvidia
from remora.share.policies.contract import Priority
from remora.share.system import groups, processes
from remora.share.system.roster import Entry, Roster

SCHEMA_VERSION = 1
_BY_GATE = (
    "an NVIDIA device is here: best-effort jobs give way by `gate`, unless --share-mechanism says "
    "otherwise"
)


class JobStatus(msgspec.Struct, frozen=True):
    """One job. None is what this machine does not tell."""

    pid: int
    script: str
    priority: Priority
    mechanism: str
    since_s: float
    """Unix time of its beginning."""
    state: str
    """``runs``, ``waits`` for a CPU or something else, or is ``stopped``."""
    cpu_s: float | None
    """CPU seconds since then, with its children's."""
    turnaround_ms: float | None
    """How long its threads have waited for a CPU, each time they wanted one, on average."""
    got_of_left: float | None
    """Of best effort: CPU time over what high-priority jobs have left of its CPUs meanwhile."""


class Status(msgspec.Struct, frozen=True):
    """The whole."""

    folder: str
    jobs: list[JobStatus]
    notes: list[str]
    """What to know beside it, a line each."""
    executor: str = "system"
    schema_version: int = SCHEMA_VERSION


def status(
    roster: Roster, *, now_s: Callable[[], float] = time.time, proc: Path = processes.PROC
) -> Status:
    """Look once.

    A high-priority job that has ended counts as if it had used nothing while it ran, so what best
    effort got of the rest is more than it says, if anything.
    """
    entries = roster.jobs()
    used = {entry.key: processes.cpu_s(entry.pid, proc) for entry in entries}
    jobs = [_job(entry, entries, used, now_s(), proc) for entry in entries]
    return Status(str(roster.folder), jobs, _notes(roster, entries, proc))


def cpu_of_high(entries: list[Entry], proc: Path = processes.PROC) -> dict[str, float]:
    """What each high-priority job has used so far, by key: what a best-effort job begins with."""
    high = [each for each in entries if each.priority is Priority.HIGH]
    found = {each.key: processes.cpu_s(each.pid, proc) for each in high}
    return {key: seconds for key, seconds in found.items() if seconds is not None}


def _job(
    entry: Entry, entries: list[Entry], used: dict[str, float | None], now_s: float, proc: Path
) -> JobStatus:
    cpu_s = used[entry.key]
    got = None if cpu_s is None else max(0.0, cpu_s - entry.cpu_s)
    waits = processes.waits(entry.pid, proc)
    return JobStatus(
        pid=entry.pid,
        script=entry.script,
        priority=entry.priority,
        mechanism=entry.mechanism,
        since_s=entry.since_s,
        state=_state(entry, proc),
        cpu_s=got,
        turnaround_ms=None if waits is None else waits.waited_ns / waits.turns / 1e6,
        got_of_left=None if got is None else _got_of_left(entry, got, entries, used, now_s),
    )


def _state(entry: Entry, proc: Path) -> str:
    states = {"R": "runs", "T": "stopped", "t": "stopped"}
    found = processes.stat(entry.pid, proc)
    return "unknown" if found is None else states.get(found.state, "waits")


def _got_of_left(
    entry: Entry, got_s: float, entries: list[Entry], used: dict[str, float | None], now_s: float
) -> float | None:
    if entry.priority is Priority.HIGH:
        return None
    by_high = 0.0
    for other in entries:
        if other.priority is Priority.HIGH:
            by_high += max(0.0, (used[other.key] or 0.0) - entry.high_cpu_s.get(other.key, 0.0))
    left_s = (now_s - entry.since_s) * entry.cpus - by_high
    return got_s / left_s if left_s > 0 else None


def _notes(roster: Roster, entries: list[Entry], proc: Path) -> list[str]:
    notes = [_BY_GATE] if has_nvidia() else []
    notes += [f"not of the roster, left alone: {name}" for name in roster.foreign_files()]
    return [*notes, *(line for each in entries for line in apart(each, entries, proc))]


def apart(entry: Entry, entries: list[Entry], proc: Path = processes.PROC) -> list[str]:
    """Of a best-effort job by ``idle`` or ``nice``: the jobs to which it does not give way.

    The kernel first shares out among groups: see :mod:`remora.share.system.groups`.
    """
    if entry.priority is Priority.HIGH or entry.mechanism not in ("idle", "nice"):
        return []
    own = groups.scheduling_group(entry.pid, proc)
    apart_from = [
        each
        for each in entries
        if each.priority is Priority.HIGH
        and own is not None
        and groups.scheduling_group(each.pid, proc) not in (None, own)
        and not groups.gives_way(entry.pid, proc)
    ]
    return [
        f"{entry.script} ({entry.pid}) and {each.script} ({each.pid}) are in different groups of "
        f"the scheduler ({own} and {groups.scheduling_group(each.pid, proc)}), so `"
        f"{entry.mechanism}` is not enough; {_advice(own)}"
        for each in apart_from
    ]


def _advice(group: str | None) -> str:
    if group is not None and group.startswith("/autogroup-"):
        return "start both from one terminal, or run: echo 19 > /proc/PID/autogroup"
    return "give the group of the best-effort job cpu.idle or CPUWeight=idle"
