"""When a server's process looks for garbage: while nobody waits for it.

Python's collector stops every thread while it looks at all objects there are, which in a server
with some models takes a tenth of a second or two, and it looks when it likes. Whoever waits then,
waits that much longer: it was the greatest time in the tail of requests. So what outlives a look is
set aside (``gc.freeze``), full looks are taken while the server has nothing to do, and where that
never is, seldom. Young objects are looked at as ever; that takes microseconds.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 1.0
IDLE_LOOKS = 2
"""Looks in a row at which nobody waits: a request is unlikely to come in the middle of it."""
SELDOM_S = 60.0
"""Between two full looks of a server that is idle now and then."""
AT_LEAST_S = 900.0
"""Of one that never is: cycles of what was unloaded keep memory until then."""
_NEVER = 1 << 30


class Garbage:
    """Decides when to look.

    Args:
        is_idle: whether nobody waits for the server now.
        collect: looks at all objects.
    """

    def __init__(self, is_idle: Callable[[], bool], collect: Callable[[], object]) -> None:
        self._is_idle, self._collect = is_idle, collect
        self._idle_looks = 0
        self._latest_s: float | None = None

    def look(self, now_s: float) -> None:
        """To be called once in :data:`LOOK_S`."""
        if self._latest_s is None:
            self._latest_s = now_s
        self._idle_looks = self._idle_looks + 1 if self._is_idle() else 0
        since_s = now_s - self._latest_s
        is_good = self._idle_looks >= IDLE_LOOKS and since_s >= SELDOM_S
        if is_good or since_s >= AT_LEAST_S:
            self._collect()
            self._latest_s = now_s


def collect_all() -> None:
    """Look at all objects, and set aside those that live."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@contextmanager
def collected_while_idle(is_idle: Callable[[], bool]) -> Iterator[None]:
    """Within it this process looks for garbage so. For a process that is a server and no more."""
    thresholds, over = gc.get_threshold(), threading.Event()
    garbage = Garbage(is_idle, collect_all)

    def attend() -> None:
        while not over.wait(LOOK_S):
            garbage.look(time.monotonic())

    collect_all()
    gc.set_threshold(*thresholds[:2], _NEVER)
    thread = threading.Thread(target=attend, name="garbage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
