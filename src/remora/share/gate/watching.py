"""How a high-priority job hears that a best-effort one stands behind its gate, and that it is gone.

Nothing is said. A best-effort job connects and keeps the line open; when it ends, by whatever
signal, the kernel closes it. Until the first comes and after the last has gone a high-priority job
has no hook at all. Addresses are in the kernel's abstract namespace, as those of notices.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import socket
import weakref
from collections.abc import Callable, Iterable

from remora.share.system import notices

_MOST = 1024


def address(key: str) -> str:
    """Where the job of ``key`` listens."""
    return f"{notices.address(key)}-gate"


class Watchers:
    """Who stands behind one high-priority job.

    Args:
        first: called in a thread of its own when somebody comes and nobody was there.
        last: likewise when the last has gone.

    Raises:
        OSError: it cannot listen.
    """

    def __init__(self, key: str, first: Callable[[], object], last: Callable[[], object]) -> None:
        self._first, self._last = first, last
        self._lines: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(address(key))
            self._listener.listen(_MOST)
        except OSError:
            self._listener.close()
            raise
        _open.add(self)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        _thread.start_new_thread(self._attend, (self._listener.fileno(),))

    def close(self) -> None:
        """Hear of nobody any more; ``last`` is not called for it. Twice does no harm."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which the thread sees
        _open.discard(self)

    def let_go(self) -> None:
        """Close the files and no more: what a forked child does with what it inherited."""
        self._listener.close()
        for line in self._lines.values():
            line.close()
        _open.discard(self)

    def _attend(self, listener: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                for descriptor, events in self._poll.poll():
                    if descriptor != listener:
                        self._leaves(descriptor)
                    elif events & select.POLLHUP:
                        self.let_go()
                        return
                    else:
                        self._comes()

    def _comes(self) -> None:
        line, _ = self._listener.accept()
        if not notices.is_own(line) or len(self._lines) >= _MOST:
            line.close()
            return
        self._lines[line.fileno()] = line
        self._poll.register(line, select.POLLIN)
        if len(self._lines) == 1:
            self._first()

    def _leaves(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._lines.pop(descriptor).close()
        if not self._lines:
            self._last()


class Lines:
    """The lines of one best-effort job to those it gives way to."""

    def __init__(self) -> None:
        self._lines: dict[str, socket.socket] = {}
        _open.add(self)

    def keep(self, keys: Iterable[str]) -> None:
        """One to the job of each key, as far as it listens, and no other."""
        wanted = set(keys)
        for key in self._lines.keys() - wanted:
            self._lines.pop(key).close()
        for key in wanted - self._lines.keys():
            line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                line.setblocking(False)
                line.connect(address(key))
            except OSError:
                line.close()
            else:
                self._lines[key] = line

    def let_go(self) -> None:
        """Close all."""
        self.keep(())


_open: weakref.WeakSet[Watchers | Lines] = weakref.WeakSet()


def _close_in_child() -> None:
    for each in list(_open):
        each.let_go()  # else a child that outlives its parent would seem to be it


os.register_at_fork(after_in_child=_close_in_child)
