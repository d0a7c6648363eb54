"""How guardians hear that a high-priority job serves: one byte at each beginning and each end.

The job listens on a socket in the kernel's abstract namespace, which leaves no file. Until a
guardian comes there is nothing else: no hook in the program, no work per request. While one
listens, each forward of a root module is told, and costs a send of a byte.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import socket
import struct
import threading
import weakref
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remora.tap.job import Job
    from remora.tap.subscription import Subscription

SERVES, IDLE = b"s", b"i"
_CREDENTIALS = struct.Struct("3i")
_MOST_GUARDIANS = 1024


def address(key: str) -> str:
    """Where the job of ``key`` listens."""
    return f"\0remora-{os.getuid()}-{key}"


def is_own(line: socket.socket) -> bool:
    """Whether who is at the other end belongs to the same user."""
    found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())


class Notices:
    """What one high-priority job tells.

    Raises:
        OSError: it cannot listen.
    """

    def __init__(self, key: str, job: Job) -> None:
        self._job = job
        self._lines: list[socket.socket] = []
        self._subscription: Subscription | None = None
        self._serving: set[int] = set()
        """Threads within a forward. One whose forward raised is out at the end of its next."""
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(address(key))
            self._listener.listen(_MOST_GUARDIANS)
        except OSError:
            self._listener.close()
            raise
        _open.add(self)
        _thread.start_new_thread(self._accept, ())

    def close(self) -> None:
        """Tell nobody any more. Calling it twice does no harm."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.let_go()
        with self._lock:
            subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.remove()

    def let_go(self) -> None:
        """Close the files and no more: what a forked child does with what it inherited."""
        self._listener.close()
        lines, self._lines = self._lines, []
        for line in lines:
            line.close()
        _open.discard(self)

    @property
    def guardians(self) -> int:
        """How many listen."""
        return len(self._lines)

    # ---------------------------------------------------------------- guardians come

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                if is_own(line) and len(self._lines) < _MOST_GUARDIANS:
                    line.setblocking(False)
                    self._welcome(line)
                else:
                    line.close()

    def _welcome(self, line: socket.socket) -> None:
        with self._lock:
            if self._subscription is None:
                self._serving.clear()
                self._subscription = self._job.steps.subscribe_forward(self._ends, self._begins)
            self._lines = [*self._lines, line]
            serves = bool(self._serving)
        if serves:
            self._send(line, SERVES)

    # ---------------------------------------------------------------- forwards

    def _begins(self, _: object) -> None:
        was_idle = not self._serving
        self._serving.add(get_ident())
        if was_idle:
            self._tell(SERVES)

    def _ends(self, _: object) -> None:
        self._serving.discard(get_ident())
        if not self._serving:
            self._tell(IDLE)

    def _tell(self, notice: bytes) -> None:
        for line in self._lines:
            self._send(line, notice)

    def _send(self, line: socket.socket, notice: bytes) -> None:
        try:
            line.send(notice)
        except OSError:  # it is gone, or does not keep up: it will come again
            self._drop(line)

    def _drop(self, line: socket.socket) -> None:
        with self._lock:
            self._lines = [each for each in self._lines if each is not line]
            line.close()
            subscription = None
            if not self._lines:
                subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.remove()


_open: weakref.WeakSet[Notices] = weakref.WeakSet()


def _close_in_child() -> None:
    for notices in list(_open):
        notices.let_go()  # else a child that outlives its parent would seem to serve


os.register_at_fork(after_in_child=_close_in_child)
