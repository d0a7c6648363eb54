"""``SCHED_IDLE``: the job runs when nobody else wants the CPU, and leaves it at once when one does.

Anyone may choose it for their own processes. Threads and children inherit it. Going back takes a
privilege (``RLIMIT_NICE`` or ``CAP_SYS_NICE``): without, :meth:`Idle.undo` changes nothing.
"""

from __future__ import annotations

import contextlib
import os

from remora.share.system.mechanisms.contract import Context, Mechanism, not_permitted
from remora.share.system.mechanisms.threads import each_thread


class Idle(Mechanism):
    """The kernel's idle class."""

    name = "idle"
    title = "SCHED_IDLE: runs when nobody else wants the CPU"
    falls_back_to = "nice"

    _before: dict[int, tuple[int, int]] | None = None

    def apply(self, context: Context) -> None:
        before: dict[int, tuple[int, int]] = {}

        def settle(thread: int) -> None:
            was = os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
            before.setdefault(thread, was)

        try:
            each_thread(settle, context.proc)
        except OSError as error:
            _put_back(before)
            raise not_permitted(
                "SCHED_IDLE",
                error,
                "let the container's seccomp profile pass sched_setscheduler "
                "(docker: --cap-add SYS_NICE)",
            ) from None
        self._before = before

    def undo(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            main = before.get(os.getpid(), (os.SCHED_OTHER, 0))
            with contextlib.suppress(OSError):
                each_thread(lambda thread: _put_back({thread: before.get(thread, main)}))

    def holds(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return os.sched_getscheduler(pid) == os.SCHED_IDLE
        return False


def _put_back(before: dict[int, tuple[int, int]]) -> None:
    for thread, (policy, priority) in before.items():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, policy, os.sched_param(priority))
