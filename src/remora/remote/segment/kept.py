"""What either end of a connection remembers of the plans that crossed it: the same, by one rule.

Both ends keep a plan when it crosses, use it when its digest does, and forget the longest unused
beyond the same bounds. So a client knows which plans the server still has, without asking.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 1024
MOST_BYTES = 64 * 2**20


class Kept(Generic[T]):
    """Values by the digest of their plan, the longest unused first.

    Args:
        most: plans.
        most_bytes: of all plans, encoded.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def use(self, digest: str) -> T | None:
        """What is kept for ``digest``, which is the last to be forgotten from now on."""
        found = self._kept.get(digest)
        if found is None:
            return None
        self._kept.move_to_end(digest)
        return found[0]

    def keep(self, digest: str, value: T, size: int) -> None:
        """Remember ``value`` for a plan of ``size`` bytes."""
        before = self._kept.pop(digest, None)
        self._bytes += size - (before[1] if before is not None else 0)
        self._kept[digest] = (value, size)
        while len(self._kept) > 1 and self._is_full():
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= gone

    def _is_full(self) -> bool:
        return len(self._kept) > self._most or self._bytes > self._most_bytes
