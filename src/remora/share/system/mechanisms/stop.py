"""Stop and continue: the job is stopped while the high-priority job serves, by a guardian.

A stopped process can do nothing for itself, so a small process of its own, the guardian, stops and
continues it, as the policy ``priority+min-wait`` decides. Nor can a dead guardian: so the kernel is
asked to continue the job should the guardian end, by whatever signal. The job holds one end of a
socket pair with ``O_ASYNC`` and ``SIGCONT`` for its signal (``F_SETSIG``, see fcntl(2)), the
guardian the other. When the last holder of the other end is gone, the kernel sends the signal.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

import remora
from remora.core.errors import BadValue, NotPermitted
from remora.share.system import leftovers, processes
from remora.share.system.mechanisms.contract import (
    Context,
    Mechanism,
    MechanismOptions,
    not_permitted,
)

_PATIENCE_S = 20.0
"""A guardian is an interpreter that starts, on a machine that may be busy."""
READY, END = b"r", b"e"


@dataclass(frozen=True)
class StopOptions(MechanismOptions):
    """When the job may go on."""

    min_wait_ns: int = 1_000_000
    """After the last request. Between two forwards of one request a program needs a moment, and
    each stop and continue costs a switch or two: on a CPU a millisecond is still nothing."""
    longest_stop_ns: int = 10_000_000_000
    """A high-priority job that seems to serve for so long without a pause has most likely failed
    in the middle: its forward raised, or it hangs. The job goes on until the next request."""

    def __post_init__(self) -> None:
        if self.min_wait_ns < 0:
            raise BadValue(f"min-wait={self.min_wait_ns} ns: choose 0 or more, such as 1ms")
        if self.longest_stop_ns <= 0:
            raise BadValue(
                f"longest-stop={self.longest_stop_ns} ns: choose more than 0, such as 10s"
            )


class Assignment(msgspec.Struct, frozen=True):
    """What a guardian is told, as JSON."""

    pid: int
    key: str
    folder: str
    min_wait_ns: int
    longest_stop_ns: int


class Stop(Mechanism):
    """SIGSTOP and SIGCONT around what a high-priority job does."""

    name = "stop"
    title = "stopped while high priority serves"
    options_type = StopOptions
    falls_back_to = "idle"

    def __init__(self, options: MechanismOptions | None = None) -> None:
        super().__init__(options)
        self._line: socket.socket | None = None
        self._pid = 0
        self._ending = False
        self._gone = threading.Event()

    def apply(self, context: Context) -> None:
        _check_possible(context)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                _start(self._assignment(context), theirs)
            ours.settimeout(_PATIENCE_S)
            if ours.recv(1) != READY:
                raise ConnectionResetError(0, "the guardian did not start")
            ours.settimeout(None)
            _be_continued_by_the_kernel(ours)
        except (OSError, subprocess.SubprocessError) as error:
            ours.close()
            reason = error if isinstance(error, OSError) else OSError(0, str(error))
            raise not_permitted(
                "a guardian process", reason, "let the job start processes of its own"
            ) from None
        self._line, self._pid, self._ending = ours, os.getpid(), False
        self._gone.clear()
        _thread.start_new_thread(self._wait_for_its_end, (ours, context))

    def _assignment(self, context: Context) -> Assignment:
        options = self.options
        if not isinstance(options, StopOptions):
            options = StopOptions()
        return Assignment(
            pid=os.getpid(),
            key=context.key,
            folder=str(context.roster),
            min_wait_ns=options.min_wait_ns,
            longest_stop_ns=options.longest_stop_ns,
        )

    def _wait_for_its_end(self, line: socket.socket, context: Context) -> None:
        """In a thread of its own, which nobody waits for and ``threading`` does not list."""
        with contextlib.suppress(OSError):
            while line.recv(1):
                pass
        line.close()
        self._gone.set()
        if self._ending:
            return
        self._line = None
        for pid in processes.descendants(os.getpid(), context.proc):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        if context.roster is not None:
            leftovers.cleared(context.roster, context.key, None, context.proc)
        context.lost("the guardian is gone")

    def undo(self) -> None:
        line, self._line = self._line, None
        if line is not None and os.getpid() == self._pid:
            self._ending = True
            with contextlib.suppress(OSError):
                line.send(END)  # the guardian continues whatever it has stopped, and ends
            self._gone.wait(_PATIENCE_S)

    def holds(self, pid: int) -> bool:
        if self._line is None:
            return False
        return pid == self._pid or pid in (
            *processes.threads(self._pid),
            *processes.descendants(self._pid),
        )


def _check_possible(context: Context) -> None:
    if context.roster is None:
        raise NotPermitted("stop: needs the roster, to hear of high-priority jobs; mend that first")
    if not (context.proc / "self" / "stat").exists():
        raise NotPermitted("stop: there is no /proc to see processes in; to have it, mount it")
    if os.getpid() == 1:
        raise NotPermitted(
            "stop: the first process of a container cannot be stopped from within; to have it, "
            "start the container with an init (docker: --init)"
        )
    if not hasattr(os, "pidfd_open"):
        raise NotPermitted(
            "stop: this kernel has no pidfd_open; to have it, use Linux 5.3 or later"
        )


def _start(assignment: Assignment, line: socket.socket) -> None:
    """Start a guardian that is nobody's child: the program is not to meet it in ``os.wait``."""
    number = line.fileno()
    subprocess.run(
        [sys.executable, "-I", "-c", _CODE, _path(), str(number), msgspec.json.encode(assignment)],
        pass_fds=[number],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        timeout=_PATIENCE_S,
        check=True,
    )


_CODE = (
    "import sys; sys.path[:0] = set(sys.argv[1].split(chr(10))) - set(sys.path); "
    "from remora.share.system.guardian import main; main(int(sys.argv[2]), sys.argv[3])"
)


def _path() -> str:
    """Where we and what we need are; not the program's folder, which may hold anything."""
    needed = (remora, msgspec)
    return "\n".join(dict.fromkeys(str(Path(str(each.__file__)).parents[1]) for each in needed))


def _be_continued_by_the_kernel(line: socket.socket) -> None:
    number = line.fileno()
    fcntl.fcntl(number, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(number, fcntl.F_SETSIG, signal.SIGCONT)
    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_ASYNC)
