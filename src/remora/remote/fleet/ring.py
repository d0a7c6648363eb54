"""Which server a key belongs to: the same for every client, and moved only when it must be.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
IEEE/ACM Transactions on Networking, 1998): each server has a weight for each key, drawn from a hash
of both, and the key belongs to the heaviest. When a server goes, only its own keys move, and evenly
to all others; when one comes, it takes its share from each and nothing else moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import xxhash


def order(key: str, names: Iterable[str]) -> list[str]:
    """``names`` as ``key`` prefers them: its own server first, then where it goes without that.

    >>> order("a conversation", ["server-0", "server-1", "server-2"])
    ['server-0', 'server-2', 'server-1']
    """
    return list(_ordered(key, tuple(names)))


@lru_cache(maxsize=4096)
def _ordered(key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (-_weight(key, name), name)))


def _weight(key: str, name: str) -> int:
    """A number that any process draws alike. Lengths keep two pairs from reading as one."""
    pair = f"{len(name)} {name} {key}"
    return xxhash.xxh3_64_intdigest(pair.encode(errors="surrogatepass"))
