"""A control group with the least weight, for whoever has been given a part of the hierarchy.

Of control groups version 2. ``cpu.idle`` makes the whole group what ``SCHED_IDLE`` is to a thread;
kernels before 5.15 have the least weight instead. It reaches across containers and sessions, where
an idle class within each does not.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from remora.core.errors import NotPermitted
from remora.share.system.leftovers import CGROUP_PREFIX, cgroup_removed
from remora.share.system.mechanisms.contract import (
    Context,
    Mechanism,
    MechanismOptions,
    not_permitted,
)

_GRANT = (
    "run the job in a part of the hierarchy that is its own: systemd-run --user --scope "
    "-p Delegate=yes remora run …"
)


class Cgroup(Mechanism):
    """A group of the job's own beside its process's, or below it.

    Args:
        hierarchy: where control groups version 2 are mounted; found if None.
    """

    name = "cgroup"
    title = "a control group of the least weight"
    falls_back_to = "idle"

    def __init__(
        self, options: MechanismOptions | None = None, *, hierarchy: Path | None = None
    ) -> None:
        super().__init__(options)
        self._hierarchy = hierarchy
        self._home: Path | None = None
        self._own: Path | None = None

    def apply(self, context: Context) -> None:
        home = self._found_home(context.proc)
        self._check_controller(home)
        own = home / f"{CGROUP_PREFIX}{context.key}"
        try:
            own.mkdir(exist_ok=True)
            self._home, self._own = home, own
            self._enter(own)
            self._weigh(home, own)
        except OSError as error:
            self.undo()
            raise not_permitted(f"a control group in {home}", error, _GRANT) from None

    def _found_home(self, proc: Path) -> Path:
        hierarchy = self._hierarchy or _mounted(proc)
        own = _own_path(proc)
        if hierarchy is None or own is None:
            raise NotPermitted(
                "a control group: no hierarchy of version 2 is mounted here; to have it, boot "
                "with systemd.unified_cgroup_hierarchy=1"
            )
        return hierarchy / own.lstrip("/")

    def _check_controller(self, home: Path) -> None:
        with contextlib.suppress(OSError):
            if "cpu" in (home / "cgroup.controllers").read_text().split():
                return
        raise NotPermitted(f"a control group: {home} has no CPU controller; to have it, {_GRANT}")

    def _enter(self, group: Path) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    def _weigh(self, home: Path, own: Path) -> None:
        if not (own / "cpu.weight").exists():
            (home / "cgroup.subtree_control").write_text("+cpu")
        if (own / "cpu.idle").exists():
            (own / "cpu.idle").write_text("1")
        else:
            (own / "cpu.weight").write_text("1")

    def undo(self) -> None:
        home, own, self._home, self._own = self._home, self._own, None, None
        if home is None or own is None:
            return
        with contextlib.suppress(OSError):  # not permitted while the group above shares out CPU
            self._enter(home)
        cgroup_removed(own)

    def holds(self, pid: int) -> bool:
        if self._own is None:
            return False
        with contextlib.suppress(OSError):
            return self._own.name in Path(f"/proc/{pid}/cgroup").read_text()
        return False

    @property
    def cgroup(self) -> str | None:
        return None if self._own is None else str(self._own)


def _mounted(proc: Path) -> Path | None:
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "mounts").read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            if kind == "cgroup2":
                return Path(place)
    return None


def _own_path(proc: Path) -> str | None:
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line[3:]
    return None
