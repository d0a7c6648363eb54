"""Memory at addresses that direct I/O accepts."""

from __future__ import annotations

import mmap


def aligned(count: int) -> memoryview:
    """``count`` zero bytes that begin at a page; freed with the last view of them."""
    return memoryview(mmap.mmap(-1, max(count, 1)))[:count]
