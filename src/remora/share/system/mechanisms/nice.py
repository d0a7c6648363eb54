"""Nice 19: the least share of the CPU beside others, about 1.5 % against a job of nice 0."""

from __future__ import annotations

import contextlib
import os

from remora.share.system.mechanisms.contract import Context, Mechanism, not_permitted
from remora.share.system.mechanisms.threads import each_thread

LEAST = 19


class Nice(Mechanism):
    """The least nice value. Threads and children inherit it; going back takes a privilege."""

    name = "nice"
    title = "nice 19: the least share beside others"
    falls_back_to = "none"

    _before: dict[int, int] | None = None

    def apply(self, context: Context) -> None:
        before: dict[int, int] = {}

        def settle(thread: int) -> None:
            was = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, LEAST)
            before.setdefault(thread, was)

        try:
            each_thread(settle, context.proc)
        except OSError as error:
            _put_back(before)
            raise not_permitted(
                "nice 19", error, "let the container's seccomp profile pass setpriority"
            ) from None
        self._before = before

    def undo(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            main = before.get(os.getpid(), 0)
            with contextlib.suppress(OSError):
                each_thread(lambda thread: _put_back({thread: before.get(thread, main)}))

    def holds(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return os.getpriority(os.PRIO_PROCESS, pid) == LEAST
        return False


def _put_back(before: dict[int, int]) -> None:
    for thread, value in before.items():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, value)
