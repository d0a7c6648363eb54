"""The share service: one job takes its place in the roster, and gives way if it is to."""

from __future__ import annotations

import atexit
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TextIO

from remora.core.errors import BadValue, RosterUnusable
from remora.core.saying import say
from remora.share.gate.high_priority import HighPriority
from remora.share.policies.contract import Priority
from remora.share.system import groups, processes
from remora.share.system.mechanisms.contract import Context, Mechanism
from remora.share.system.mechanisms.registry import Choice, applied
from remora.share.system.notices import Notices
from remora.share.system.roster import Entry, Place, Roster, new_key
from remora.share.system.runtime_folder import runtime_folder
from remora.share.system.status import apart, cpu_of_high
from remora.tap.service import Service

if TYPE_CHECKING:
    from remora.tap.imports import Imports
    from remora.tap.job import Job


class Share(Service):
    """Runs a job at a priority.

    A job stays what it is until its process is gone: once its main code has ended, its other
    threads and its exit handlers go on at the same priority. Detached before, it is a job like any
    other again, as far as the system permits that.

    Args:
        priority: of the job.
        mechanism: how a best-effort job gives way.
        exclusive: refuse to run beside another high-priority job, and keep others from coming.
        command: what people know the job by.
        folder: of the roster; the user's own if None.
        stderr: where lines go; ``sys.stderr`` as it is then if None.

    Raises:
        BadValue: a best-effort job that wants to be the only high-priority one.
    """

    name: ClassVar[str] = "share"

    def __init__(
        self,
        priority: Priority,
        mechanism: Choice | None = None,
        *,
        exclusive: bool = False,
        command: Sequence[str] = (),
        folder: Path | None = None,
        proc: Path = processes.PROC,
        stderr: TextIO | None = None,
    ) -> None:
        if exclusive and priority is not Priority.HIGH:
            raise BadValue("--exclusive is for --priority high; leave it out")
        if mechanism is not None and priority is Priority.HIGH:
            raise BadValue(
                f"mechanism {mechanism}: a high-priority job gives way to none; "
                "it is for --priority best-effort"
            )
        self._priority, self._choice = priority, mechanism or Choice()
        self._exclusive, self._command = exclusive, shlex.join(command)
        self._folder, self._proc, self._stderr = folder, proc, stderr
        self._imports: Imports
        self._reset()

    def _reset(self) -> None:
        self._roster: Roster | None = None
        self._place: Place | None = None
        self._mechanism: Mechanism | None = None
        self._notices: Notices | None = None
        self._at_gate: HighPriority | None = None
        self._session_nice: int | None = None
        self._ended = False
        self._pid = os.getpid()

    @property
    def mechanism(self) -> str:
        """How the job gives way now; ``none`` of a high-priority job."""
        return "none" if self._mechanism is None else self._mechanism.name

    @property
    def guardians(self) -> int:
        """How many listen to a high-priority job."""
        return 0 if self._notices is None else self._notices.guardians

    @property
    def acting(self) -> Mechanism | None:
        """The mechanism in force; None of a high-priority job."""
        return self._mechanism

    # ---------------------------------------------------------------- the contract

    def attach(self, job: Job) -> None:
        """Take a place.

        Raises:
            PriorityTaken: another high-priority job runs where one is allowed.
        """
        self._reset()
        self._key = new_key()
        atexit.register(self._leave_at_exit)  # before the program's own, so behind them
        try:
            self._roster = Roster(self._folder or runtime_folder(), proc=self._proc)
        except RosterUnusable as error:
            self._say(f"{error}; the job goes on, and no other sees it")
        if self._priority is Priority.HIGH:
            self._join()
            self._announce(job)
        else:
            self._imports = job.imports
            self._give_way(self._choice)

    def finish(self) -> None:
        """The main code has ended; other threads and exit handlers may not have."""
        self._ended = True

    def detach(self) -> None:
        if self._notices is not None:
            self._notices.close()  # its hooks go now; a job without hooks serves nobody we see
            self._notices = None
        if self._at_gate is not None:
            self._at_gate.close()
            self._at_gate = None
        if not self._ended:
            atexit.unregister(self._leave_at_exit)
            self.leave()

    # ---------------------------------------------------------------- coming

    def _announce(self, job: Job) -> None:
        if self._place is None:
            return
        try:
            self._notices = Notices(self._key, job)
        except OSError as error:
            self._say(f"no socket to tell others by: {error.strerror}; `stop` cannot heed this job")
        if self._roster is not None:
            self._at_gate = HighPriority(self._roster, self._key, job, self._say)
        self._say_who_does_not_give_way()

    def _give_way(self, choice: Choice) -> None:
        folder = None if self._roster is None else self._roster.folder
        context = Context(
            *(self._key, folder, self._on_lost, self._proc),
            when_imported=self._imports.subscribe,
            say=self._say,
        )
        self._mechanism = applied(choice, context, self._say)
        if self._mechanism.name in ("idle", "nice"):
            self._lower_session()
        self._join()
        self._say_who_does_not_give_way()

    def _lower_session(self) -> None:
        """Across sessions only this helps. Done where it can be put back, and harms no other."""
        nice = groups.session_nice(self._proc)
        if nice is None or nice >= groups.LEAST or not groups.may_raise_again():
            return
        own = groups.scheduling_group(os.getpid(), self._proc)
        jobs = [] if self._roster is None else self._roster.jobs()
        beside = {groups.scheduling_group(each.pid, self._proc) for each in jobs if _is_high(each)}
        if beside - {None} and own not in beside and groups.set_session_nice(groups.LEAST):
            self._session_nice = nice

    def _on_lost(self, why: str) -> None:
        if self._mechanism is None or os.getpid() != self._pid:
            return
        lost = self._mechanism
        self._say(f"{lost.name}: {why}; {lost.falls_back_to} instead")
        if self._place is not None:
            self._place.leave()
        self._give_way(Choice(lost.falls_back_to))

    def _join(self) -> None:
        if self._roster is None:
            return
        try:
            self._place = self._roster.join(self._entry())
        except RosterUnusable as error:
            self._say(f"{error}; the job goes on, and no other sees it")

    def _entry(self) -> Entry:
        own = processes.stat(os.getpid(), self._proc)
        jobs = [] if self._roster is None else self._roster.jobs()
        return Entry(
            key=self._key,
            pid=os.getpid(),
            script=self._command or "-",
            priority=self._priority,
            since_s=time.time(),
            mechanism=self.mechanism,
            exclusive=self._exclusive,
            started_ticks=own.started_ticks if own else None,
            pid_namespace=processes.pid_namespace(self._proc),
            cpus=len(os.sched_getaffinity(0)),
            cpu_s=own.cpu_s if own else 0.0,
            high_cpu_s=cpu_of_high(jobs, self._proc),
            cgroup=None if self._mechanism is None else self._mechanism.cgroup,
        )

    def _say_who_does_not_give_way(self) -> None:
        jobs = [] if self._roster is None else self._roster.jobs()
        mine = [each for each in jobs if each.key == self._key]
        if self._priority is Priority.HIGH:
            lines = [line for each in jobs for line in apart(each, mine, self._proc)]
        else:
            lines = [line for each in mine for line in apart(each, jobs, self._proc)]
        for line in lines:
            self._say(line)

    # ---------------------------------------------------------------- going

    def leave(self) -> None:
        """Give up the place and put back what can be."""
        self._let_go()
        if self._mechanism is not None:
            self._mechanism.undo()
            self._mechanism = None
        self._give_up_place()

    def _leave_at_exit(self) -> None:
        """The process ends, and its class with it; what would outlive it is put back."""
        if os.getpid() != self._pid:
            return  # a child that has inherited the exit handler
        self._let_go()
        if self._at_gate is not None:
            self._at_gate.close()
        if self._mechanism is not None and self._mechanism.leaves_something:
            self._mechanism.undo()
        self._give_up_place()

    def _let_go(self) -> None:
        if self._session_nice is not None:
            groups.set_session_nice(self._session_nice, self._proc)
            self._session_nice = None

    def _give_up_place(self) -> None:
        place, self._place = self._place, None
        if place is None:
            return
        if place.entry.cgroup is not None and Path(place.entry.cgroup).exists():
            place.close()  # whoever comes next removes the group we are still in
        else:
            place.leave()

    def _say(self, line: str) -> None:
        said = line.removeprefix("remora: ")  # of what says lines by itself elsewhere
        say(f"remora: share: {said}", self._stderr)


def _is_high(entry: Entry) -> bool:
    return entry.priority is Priority.HIGH
