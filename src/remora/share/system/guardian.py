"""The guardian: stops a best-effort job while high-priority jobs serve, and continues it.

A process of its own, so that it can do so when the job cannot. It is the child of none: it ends
when the job does, by whatever signal, and then continues what else it had stopped and removes what
the job has left. Should it be killed
itself, the kernel continues the job: see ``mechanisms/stop``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from remora.core.errors import RosterUnusable
from remora.share.policies.contract import Priority
from remora.share.system import leftovers, notices, processes
from remora.share.system.leftovers import Stopped
from remora.share.system.mechanisms.stop import END, READY, Assignment
from remora.share.system.roster import Entry, Roster
from remora.share.system.turns import Turns, waits

_LOOK_NS = 250_000_000
"""How often to look for high-priority jobs that have come, and for children of the job."""


class Stoppable:
    """The job's processes, each known by a descriptor, so that no later process is taken for it."""

    def __init__(self, pid: int, key: str, folder: Path) -> None:
        self.pid, self._key, self._folder = pid, key, folder
        self.descriptor = os.pidfd_open(pid)
        self._children: dict[int, int] = {}
        self._stopped = False

    def look(self) -> None:
        """See which children there are; a new one of a stopped job is stopped too.

        Raises:
            OSError: what may be stopped could not be noted.
        """
        found = {each for each in processes.descendants(self.pid) if each != os.getpid()}
        gone, new = self._children.keys() - found, found - self._children.keys()
        for pid in gone:
            os.close(self._children.pop(pid))
        opened = {}
        for pid in new:
            with contextlib.suppress(OSError):
                opened[pid] = os.pidfd_open(pid)
        self._children |= opened
        if gone or new:
            self._note()
        if self._stopped:
            for descriptor in opened.values():
                _send(descriptor, signal.SIGSTOP)

    def _note(self) -> None:
        stats = {pid: processes.stat(pid) for pid in (self.pid, *self._children)}
        found = [Stopped(pid, each.started_ticks) for pid, each in stats.items() if each]
        leftovers.write_stopped(self._folder, self._key, found)

    def stop(self) -> None:
        """Unless somebody else has stopped it already: then it is not ours to continue."""
        found = processes.stat(self.pid)
        if self._stopped or found is None or found.state == "T":
            return
        self._stopped = True
        for descriptor in (self.descriptor, *self._children.values()):
            _send(descriptor, signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue whatever was stopped here; children first, which the job may wait for."""
        if self._stopped:
            self._stopped = False
            for descriptor in (*self._children.values(), self.descriptor):
                _send(descriptor, signal.SIGCONT)


def _send(descriptor: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(descriptor, number)


class Guardian:
    """One guardian at work.

    Args:
        line: to the job.
        now_ns: a monotonic clock.
    """

    def __init__(
        self,
        assignment: Assignment,
        line: socket.socket,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._assignment, self._line, self._now_ns = assignment, line, now_ns
        self._roster = Roster(Path(assignment.folder))
        self._job = Stoppable(assignment.pid, assignment.key, self._roster.folder)
        policy = waits({"min_wait_ns": assignment.min_wait_ns})
        self._turns = Turns(policy, assignment.longest_stop_ns, now_ns())
        self._high: dict[int, tuple[Entry, socket.socket]] = {}
        """Of each connection to a high-priority job, by descriptor."""
        self._poll = select.poll()
        self._ended = False

    def run(self) -> None:
        """Until the job has ended, or wants no guardian any more."""
        for descriptor in (self._line.fileno(), self._job.descriptor):
            self._poll.register(descriptor, select.POLLIN)
        self._line.send(READY)
        look_ns = 0
        try:
            while not self._ended:
                now_ns = self._now_ns()
                if now_ns >= look_ns:
                    self._look()
                    look_ns = now_ns + _LOOK_NS
                self._take_news(self._act(look_ns))
        finally:
            self._job.go_on()
            self._clear_up()

    def _act(self, look_ns: int) -> int:
        """Do as the policy says; returns until when nothing else is to be done."""
        may_run, again_ns = self._turns.may_run(self._now_ns())
        if may_run:
            self._job.go_on()
        else:
            self._job.stop()
        return look_ns if again_ns is None else min(look_ns, again_ns)

    def _take_news(self, until_ns: int) -> None:
        left_ms = max(0, until_ns - self._now_ns()) / 1e6
        for descriptor, _ in self._poll.poll(left_ms):
            if descriptor == self._job.descriptor:
                self._ended = True
            elif descriptor == self._line.fileno():
                self._ended |= self._line.recv(1) in (END, b"")
            else:
                self._hear(descriptor)

    def _hear(self, descriptor: int) -> None:
        entry, line = self._high[descriptor]
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while notice := line.recv(1):
                if notice == notices.SERVES:
                    self._turns.begins(entry.key, self._now_ns())
                else:
                    self._turns.ends(entry.key, self._now_ns())
            self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        entry, line = self._high.pop(descriptor)
        self._poll.unregister(descriptor)
        line.close()
        self._turns.left(entry.key, self._now_ns())

    # ---------------------------------------------------------------- looking around

    def _look(self) -> None:
        jobs = {each.key: each for each in self._roster.jobs() if each.priority is Priority.HIGH}
        known = {entry.key: descriptor for descriptor, (entry, _) in self._high.items()}
        for key, descriptor in known.items():
            if key not in jobs:
                self._forget(descriptor)
            elif key in self._turns.serving and _is_stopped(jobs[key].pid):
                self._turns.ends(key, self._now_ns())  # it serves nobody before it is continued
        for key in jobs.keys() - known.keys():
            self._listen_to(jobs[key])
        if self._high:
            self._job.look()

    def _listen_to(self, entry: Entry) -> None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            line.setblocking(False)
            line.connect(notices.address(entry.key))
        except OSError:
            line.close()
            return
        self._high[line.fileno()] = entry, line
        self._poll.register(line.fileno(), select.POLLIN)

    def _clear_up(self) -> None:
        """If the job is dead its place in the roster is free by now, or will be in a moment."""
        leftovers.cleared(self._roster.folder, self._assignment.key, None)
        with contextlib.suppress(RosterUnusable):
            for _ in range(50):
                self._roster.sweep()
                if not any(self._roster.folder.glob(f"{self._assignment.key}.*")):
                    return
                if processes.is_alive(self._assignment.pid, None):
                    return
                time.sleep(0.02)


def _is_stopped(pid: int) -> bool:
    found = processes.stat(pid)
    return found is not None and found.state == "T"


def main(descriptor: int, assignment: str) -> None:
    """Begin, in a process that is nobody's child, once whoever started it has gone on."""
    if os.fork():
        os._exit(0)
    os.setsid()  # no Ctrl-C of the job's terminal
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    line = socket.socket(fileno=descriptor)
    Guardian(msgspec.json.decode(assignment, type=Assignment), line).run()
