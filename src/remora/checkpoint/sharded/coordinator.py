"""How ranks agree: keys in the job's own store, on connections of our own.

Nothing here is a collective, so it cannot get between the job's own collectives: a follower waits
for a key that the leader (rank 0) sets, and the leader for one of each follower. A connection does
one thing at a time, and waiting for a key is one: a thread that waited on another's would keep it
from setting the very key that is waited for elsewhere. So each thread has its own.
"""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta
from typing import Any

import msgspec

from remora.core.errors import BadValue, CheckpointUnusable

PATIENCE_S = 600.0
"""Ranks run in step; one that is this late has died, and the launcher ends the others."""
_instances = itertools.count()


class Coordinator:
    """One rank's end. Every rank makes one for each folder, in the same order.

    Args:
        store: a c10d store that all ranks share; only its clones are used.
    """

    def __init__(
        self, store: Any, rank: int, world: int, *, patience_s: float = PATIENCE_S
    ) -> None:
        self.rank, self.world = rank, world
        self._source, self._patience = store.clone(), timedelta(seconds=patience_s)
        self._own = threading.local()
        self._prefix = f"remora/checkpoint/{next(_instances)}"
        self._said, self._asked = itertools.count(), itertools.count()
        self._leaving = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def announce(self, value: Any) -> Any:
        """What the leader gives; followers wait for it. Called by all ranks in the same order."""
        key = f"{self._prefix}/said/{next(self._said)}"
        if self.leads:
            self._set(key, value)
            return value
        return self._get(key)

    def first(self, trouble: str | None) -> str | None:
        """The first rank's trouble, for all ranks; None if no rank has any."""
        what = f"trouble/{next(self._asked)}"
        if not self.leads:
            self.deliver(what, trouble)
            return self.announce(None)  # type: ignore[no-any-return]
        every = [trouble, *self.gather(what)]
        said = [f"rank {rank}: {each}" for rank, each in enumerate(every) if each is not None]
        return self.announce(said[0] if said else None)  # type: ignore[no-any-return]

    def deliver(self, what: str, value: Any) -> None:
        """Tell the leader ``value`` about ``what``."""
        self._set(f"{self._prefix}/{what}/{self.rank}", value)

    def gather(self, what: str) -> list[Any]:
        """What the followers delivered about ``what``, by rank from 1 on; the leader waits."""
        return [self._get(f"{self._prefix}/{what}/{rank}") for rank in range(1, self.world)]

    def agreed_end(self, done: int) -> int | None:
        """The number of steps after which every rank may leave, once all have been told to end.

        To be asked by a rank that has been told, after each step; None until all have. Ranks in
        step are never more than one apart, so two beyond the furthest is ahead of every one.
        """
        if not self._leaving:
            self._leaving = True
            self._set(f"{self._prefix}/leaving/{self.rank}", done)
        keys = [f"{self._prefix}/leaving/{rank}" for rank in range(self.world)]
        if not self._store.check(keys):
            return None
        return max(int(self._get(key)) for key in keys) + 2

    @property
    def _store(self) -> Any:
        """This thread's connection."""
        if not hasattr(self._own, "store"):
            self._own.store = self._source.clone()
            self._own.store.set_timeout(self._patience)
        return self._own.store

    def _set(self, key: str, value: Any) -> None:
        self._store.set(key, msgspec.msgpack.encode(value))

    def _get(self, key: str) -> Any:
        try:
            return msgspec.msgpack.decode(self._store.get(key))
        except RuntimeError as error:  # DistStoreError, and DistNetworkError where the leader died
            raise CheckpointUnusable(
                f"rank {self.rank} waited for another rank in vain; every rank must open the "
                f"checkpoint folder and save at the same steps ({type(error).__name__})"
            ) from error


def coordinator(sharded: bool | None) -> Coordinator | None:
    """This process's end, where several ranks take part; None for a job of one.

    Args:
        sharded: None to take part wherever torch.distributed runs more than one rank.

    Raises:
        BadValue: asked for, but torch.distributed is not initialised.
    """
    from torch import distributed

    running = distributed.is_available() and distributed.is_initialized()
    if sharded and not running:
        raise BadValue("sharded=True needs torch.distributed.init_process_group to be called first")
    if sharded is False or not running or distributed.get_world_size() == 1:
        return None
    store = distributed.distributed_c10d._get_default_store()
    return Coordinator(store, distributed.get_rank(), distributed.get_world_size())
