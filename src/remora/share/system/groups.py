"""Which group of processes the kernel's scheduler counts a process to.

It shares the CPU out between groups first, then within each: ``SCHED_IDLE`` and nice values say who
gives way to whom within a group, and nothing across. A group is a control group that has the CPU
controller; without one, where the kernel makes them (``sched_autogroup``), a session: what was
started from one terminal.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from remora.share.system.processes import PROC

CGROUPS = Path("/sys/fs/cgroup")
LEAST = 19


def scheduling_group(pid: int, proc: Path = PROC) -> str | None:
    """A name of the group ``pid`` is in, to be compared; None where that is not known."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    cgroup = _with_cpu_controller(lines)
    if cgroup != "/":
        return cgroup
    session = _session(pid, proc)
    return f"/{session[0]}" if session else "/"


def _with_cpu_controller(lines: list[str]) -> str:
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return path
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    while path != "/" and not (CGROUPS / path.lstrip("/") / "cpu.weight").exists():
        path = str(Path(path).parent)
    return path


def _session(pid: int, proc: Path) -> tuple[str, int] | None:
    """The session's group and its nice value, where the kernel makes such groups."""
    with contextlib.suppress(OSError, ValueError):
        if (proc / "sys/kernel/sched_autogroup_enabled").read_text().strip() == "1":
            name, _, nice = (proc / str(pid) / "autogroup").read_text().strip("/\n").split()
            return name, int(nice)
    return None


def session_nice(proc: Path = PROC) -> int | None:
    """How this process's session stands to other sessions; None where that means nothing."""
    found = _session(os.getpid(), proc)
    group = scheduling_group(os.getpid(), proc)
    return found[1] if found and group == f"/{found[0]}" else None


def set_session_nice(nice: int, proc: Path = PROC) -> bool:
    """Let this process's session give way to others. Whether that was permitted."""
    try:
        (proc / "self/autogroup").write_text(str(nice))
    except OSError:
        return False
    return True


def may_raise_again() -> bool:
    """Whether this process may take back that it gave way: anyone may, but few may back."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return os.geteuid() == 0 or soft >= 20 or soft == resource.RLIM_INFINITY


def gives_way(pid: int, proc: Path = PROC) -> bool:
    """Whether the session of ``pid`` gives way to others as far as a session can."""
    found = _session(pid, proc)
    return found is not None and found[1] == LEAST
