"""Both jobs of a trial on the same cores, so that they contend for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from remora.core.errors import BadValue


def shared_cores(count: int) -> list[int]:
    """The last ``count`` of the cores this process may use: others tend to take the first.

    Raises:
        BadValue: there are not so many.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise BadValue(f"cores={count} do not suit this machine; choose 1 to {len(allowed)}")
    return allowed[-count:]


def pin(cores: Collection[int]) -> None:
    """Let every thread of this process run on ``cores`` and no other."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """On those for a while."""
    before = os.sched_getaffinity(0)
    pin(cores)
    try:
        yield
    finally:
        pin(before)
