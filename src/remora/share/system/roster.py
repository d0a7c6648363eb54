"""The roster: who shares this machine, one file a job, each locked by the job it is of.

The kernel lets go of a lock when its process ends, however it ends. So a file that nobody holds is
of a dead job, and whoever comes next removes it, with what that job has left behind. Files are made
and removed under one more lock, which nobody holds for long, so none is seen half made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from remora.core.errors import PriorityTaken, RosterUnusable
from remora.core.files import UNDECODABLE
from remora.share.policies.contract import Priority
from remora.share.system import leftovers, processes
from remora.share.system.runtime_folder import open_folder

VERSION = 1
_ENDING, _LOCK = ".job", "roster.lock"
_LARGEST_BYTES = 1 << 20
_PATIENCE_S = 2.0
"""How long to wait for the lock: whoever holds it needs a moment, unless somebody stopped it."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job, as it writes itself down."""

    key: str
    """Of this job alone, and of the files it is known by."""
    pid: int
    script: str
    priority: Priority
    since_s: float
    """Unix time."""
    version: int = VERSION
    mechanism: str = "none"
    exclusive: bool = False
    started_ticks: int | None = None
    pid_namespace: str = ""
    cpus: int = 1
    """How many CPUs it may use."""
    cpu_s: float = 0.0
    """What it had used by then."""
    high_cpu_s: dict[str, float] = {}
    """What each high-priority job had used by then, by key."""
    cgroup: str | None = None
    """A control group made for it, to be removed behind it."""


def new_key() -> str:
    """What tells one job from every other."""
    return secrets.token_hex(8)


class Place:
    """A job's place in the roster, held until :meth:`leave` or the end of the process."""

    def __init__(self, entry: Entry, path: Path, descriptor: int) -> None:
        self.entry, self._path, self._descriptor = entry, path, descriptor
        _held.add(self)

    def leave(self) -> None:
        """Give it up. Calling it twice does no harm."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self.close()

    def close(self) -> None:
        """Let go of the file and no more: what a forked child does with what it inherited."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        _held.discard(self)


_held: weakref.WeakSet[Place] = weakref.WeakSet()


def _close_in_child() -> None:
    for place in list(_held):
        place.close()  # else a child that outlives its parent would hold the parent's place


os.register_at_fork(after_in_child=_close_in_child)


class Roster:
    """The roster in ``folder``.

    Args:
        folder: made if it is not there.
        proc: where the kernel tells of processes.

    Raises:
        RosterUnusable: the folder cannot be used.
    """

    def __init__(self, folder: Path, *, proc: Path = processes.PROC) -> None:
        open_folder(folder)
        self.folder, self._proc = folder, proc
        self._namespace = processes.pid_namespace(proc)

    def join(self, entry: Entry) -> Place:
        """Write ``entry`` down.

        Raises:
            PriorityTaken: it is of high priority, and it or another wants to be the only such job.
            RosterUnusable: the folder cannot be written, or the lock is not to be had.
        """
        with self.locked():
            self._sweep()
            if entry.priority is Priority.HIGH:
                self._check_room(entry)
            try:
                return self._written(entry)
            except OSError as error:
                raise RosterUnusable(
                    f"folder {self.folder}: {error.strerror}; free or change it"
                ) from None

    def jobs(self) -> list[Entry]:
        """The jobs that are alive, in the order in which they came."""
        found = [entry for path in self._files() if (entry := self._read(path)) is not None]
        return sorted((entry for entry in found if self._lives(entry)), key=_age)

    def find(self, key: str) -> Entry | None:
        """The job of ``key``, if it is alive."""
        entry = self._read(self.folder / f"{key}{_ENDING}")
        return entry if entry is not None and self._lives(entry) else None

    def sweep(self) -> None:
        """Remove what dead jobs have left. Where the lock is not to be had, somebody else will.

        Raises:
            RosterUnusable: the folder cannot be written.
        """
        with self.locked():
            self._sweep()

    def foreign_files(self) -> list[str]:
        """Names in the folder that are not of the roster; they are left alone."""
        known = (_ENDING, leftovers.ENDING)
        strange = {
            each.name
            for each in self.folder.iterdir()
            if each.name != _LOCK and not each.name.endswith(known) and not leftovers.is_gate(each)
        }
        return sorted(strange | {each.name for each in self._files() if not self._read(each)})

    # ---------------------------------------------------------------- files

    def _files(self) -> list[Path]:
        return [each for each in self.folder.iterdir() if each.name.endswith(_ENDING)]

    def _written(self, entry: Entry) -> Place:
        path = self._path(entry)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, msgspec.json.encode(entry))
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return Place(entry, path, descriptor)

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{entry.key}{_ENDING}"

    def _read(self, path: Path) -> Entry | None:
        """None for what is no entry of ours, whatever it is."""
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
                return None
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
        except (OSError, *UNDECODABLE):
            return None
        ours = entry.version == VERSION and path == self._path(entry)
        return entry if ours else None

    # ---------------------------------------------------------------- the living and the dead

    def _lives(self, entry: Entry) -> bool:
        if not _is_locked(self._path(entry)):
            return False
        if not self._namespace or entry.pid_namespace != self._namespace:
            return True  # its number means nothing here
        return processes.is_alive(entry.pid, entry.started_ticks, self._proc)

    def _sweep(self) -> None:
        for path in self._files():
            entry = self._read(path)
            if entry is None or self._lives(entry):
                continue
            if leftovers.cleared(self.folder, entry.key, entry.cgroup, self._proc):
                with contextlib.suppress(OSError):
                    path.unlink()
        leftovers.gates_removed(self.folder)

    def _check_room(self, entry: Entry) -> None:
        others = [each for each in self.jobs() if each.priority is Priority.HIGH]
        alone = entry.exclusive or any(each.exclusive for each in others)
        if others and alone:
            other = next((each for each in others if each.exclusive), others[0])
            wish = (
                "this job wants to be the only one; leave out --exclusive, wait for its end,"
                if entry.exclusive
                else "that job wants to be the only one; wait for its end,"
            )
            raise PriorityTaken(
                f"a high-priority job runs already: {other.script} (process {other.pid}), and "
                f"{wish} or run this one with --priority best-effort"
            )

    @contextlib.contextmanager
    def locked(
        self, patience_s: float = _PATIENCE_S, now_s: Callable[[], float] = time.monotonic
    ) -> Iterator[None]:
        """Within it nobody else makes or removes anything here.

        Raises:
            RosterUnusable: somebody holds the lock for longer than ``patience_s``.
        """
        path = self.folder / _LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RosterUnusable(f"file {path}: {error.strerror}; make it writable") from None
        try:
            until_s = now_s() + patience_s
            while not _taken(descriptor):
                if now_s() > until_s:
                    raise RosterUnusable(
                        f"file {path} is held by another process; continue that if it is stopped"
                    )
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _age(entry: Entry) -> tuple[float, str]:
    return entry.since_s, entry.key
