"""How much memory this process may still take: what its machine has, within its own limits."""

from __future__ import annotations

import resource

import psutil


def free_bytes() -> int:
    """Bytes. Told to people: others take of it too, so nothing may be decided by it."""
    used = psutil.Process().memory_info()
    left = [int(psutil.virtual_memory().available)]
    for limit, taken in (
        (resource.RLIMIT_AS, used.vms),
        (resource.RLIMIT_DATA, getattr(used, "data", 0)),
    ):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            left.append(max(0, most - int(taken)))
    return min(left)
