"""What a job may leave behind that was killed: stopped children, a control group, a gate's file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

import msgspec

from remora.core.files import UNDECODABLE
from remora.share.system import processes

ENDING = ".stopped"
CGROUP_PREFIX = "remora-best-effort-"
GATE_PREFIX = "gate-"
GATE_MAGIC = b"remora\0g"


class Stopped(msgspec.Struct, frozen=True, array_like=True):
    """A process that may be stopped now, and has to be continued if its guardian is gone."""

    pid: int
    started_ticks: int


def write_stopped(folder: Path, key: str, stopped: list[Stopped]) -> None:
    """Note what may be stopped, before it is.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"{key}{ENDING}"
    aside = path.with_name(f".{path.name}{ENDING}")
    aside.write_bytes(msgspec.json.encode(stopped))
    aside.replace(path)


def cleared(folder: Path, key: str, cgroup: str | None, proc: Path = processes.PROC) -> bool:
    """Continue what a dead job's guardian has stopped, and remove its files and its control group.

    Whether nothing is left.
    """
    path = folder / f"{key}{ENDING}"
    with contextlib.suppress(OSError, *UNDECODABLE):
        for each in msgspec.json.decode(path.read_bytes(), type=list[Stopped]):
            if processes.is_alive(each.pid, each.started_ticks, proc):
                os.kill(each.pid, signal.SIGCONT)
    for file in (path, path.with_name(f".{path.name}{ENDING}")):
        with contextlib.suppress(OSError):
            file.unlink()
    return cgroup is None or cgroup_removed(Path(cgroup))


def cgroup_removed(folder: Path, patience_s: float = 0.0) -> bool:
    """Remove a control group of ours. Whether it is gone: it stays while processes are in it."""
    if not folder.name.startswith(CGROUP_PREFIX):
        return True  # not of our making, whatever a file says
    until_s = time.monotonic() + patience_s
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() >= until_s:
                return not folder.exists()
            time.sleep(0.02)
        else:
            return True


def gates_removed(folder: Path) -> None:
    """Remove the files of gates that no process holds. To be called under the roster's lock."""
    for path in folder.glob(f"{GATE_PREFIX}*"):
        with contextlib.suppress(OSError):
            if is_gate(path) and _is_unused(path):
                path.unlink()


def is_gate(path: Path) -> bool:
    """Whether it is the file of a gate, and not somebody's own: whole, or not yet written."""
    with contextlib.suppress(OSError):
        if path.name.startswith(GATE_PREFIX) and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                return file.read(len(GATE_MAGIC)) in (GATE_MAGIC, b"")
    return False


def _is_unused(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
