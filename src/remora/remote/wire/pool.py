"""Memory for large tensors that arrive, used again when the tensor that had it is gone.

Fresh memory costs a page fault for every 4 KiB, more than the copy into it.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref

import numpy as np

LEAST_BYTES = 2**20
"""What is smaller comes from the allocator, which keeps such memory itself."""
STEP_BYTES = 64 * 2**10
"""Sizes are rounded up to a multiple of this, so that nearly equal ones share memory."""
KEPT_BYTES = 512 * 2**20


class Pool:
    """Gives memory, and takes it back by itself. Thread-safe.

    Args:
        kept_bytes: at most so much is kept while nobody uses it.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._most = kept_bytes
        self._free: dict[int, list[np.ndarray]] = {}
        """Blocks by their size. Lists alone: a lock could be wanted again by a finaliser."""

    def __call__(self, size: int) -> np.ndarray:
        """``size`` bytes, 1-D uint8, whatever is in them.

        Raises:
            MemoryError: the machine, or a limit of the process, has not so many left.
        """
        if size < LEAST_BYTES:
            return np.empty(size, dtype=np.uint8)
        block = self._block(-(-size // STEP_BYTES) * STEP_BYTES)
        lent = block[:size]
        weakref.finalize(lent, self._take_back, block).atexit = False
        return lent

    @property
    def kept_bytes(self) -> int:
        """What lies here unused."""
        return sum(size * len(blocks) for size, blocks in list(self._free.items()))

    def _block(self, size: int) -> np.ndarray:
        try:
            return self._free[size].pop()
        except (KeyError, IndexError):
            return np.frombuffer(self._fresh(size), dtype=np.uint8)

    def _fresh(self, size: int) -> mmap.mmap:
        """Fresh memory, for which what is kept makes room if need be."""
        try:
            return _pages(size)
        except OSError:
            self._free.clear()
        try:
            return _pages(size)
        except OSError as error:
            raise MemoryError(f"no memory for {size} bytes: {error.strerror}") from None

    def _take_back(self, block: np.ndarray) -> None:
        if self.kept_bytes + block.nbytes > self._most:
            self._free.clear()  # what was kept fits today's sizes less than this one
        if block.nbytes <= self._most:
            self._free.setdefault(block.nbytes, []).append(block)


def _pages(size: int) -> mmap.mmap:
    """Fresh memory of its own, in huge pages where the machine has them."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # the machine has none
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
