"""What the ranks of a job tell each other: keys in the job's own store, on connections of our own.

Nothing here is a collective, so it cannot get between the job's own. A connection does one thing
at a time, and waiting for a key is one: a thread that waited on another's would keep it from
setting the very key that is waited for elsewhere. So each thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec


class Board:
    """Values by key, for all ranks.

    Args:
        store: a c10d store that all ranks share; only its clones are used.
        prefix: before every key.
        patience_s: how long to wait for a key that another rank is to set.
    """

    def __init__(self, store: Any, prefix: str, *, patience_s: float) -> None:
        self._source, self._patience = store.clone(), timedelta(seconds=patience_s)
        self._source.set_timeout(self._patience)  # for as long its clones try to connect, too
        self._prefix = prefix
        self._own = threading.local()

    def put(self, key: str, value: Any) -> None:
        """``value`` may be anything msgpack can hold."""
        self._store.set(f"{self._prefix}/{key}", msgspec.msgpack.encode(value))

    def get(self, key: str) -> Any:
        """The value of ``key``, waited for.

        Raises:
            TimeoutError: nobody set it in time, or the store is gone.
        """
        try:
            return msgspec.msgpack.decode(self._store.get(f"{self._prefix}/{key}"))
        except RuntimeError as error:  # DistStoreError, and DistNetworkError where the host died
            raise TimeoutError(type(error).__name__) from error

    def has(self, keys: Sequence[str]) -> bool:
        """Whether all of ``keys`` are set."""
        return bool(self._store.check([f"{self._prefix}/{key}" for key in keys]))

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        self._store.delete_key(f"{self._prefix}/{key}")

    @property
    def _store(self) -> Any:
        """This thread's connection."""
        if not hasattr(self._own, "store"):
            self._own.store = self._source.clone()
            self._own.store.set_timeout(self._patience)
        return self._own.store


class Ranks(NamedTuple):
    """A job of several ranks, as this one sees it."""

    store: Any
    rank: int
    world: int


def running_ranks() -> Ranks | None:
    """The job's ranks, where torch.distributed runs more than one; else None."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    world = distributed.get_world_size()
    if world == 1:
        return None
    store = distributed.distributed_c10d._get_default_store()
    return Ranks(store, distributed.get_rank(), world)
