"""How ranks agree, over keys that all of them see (:class:`~remora.core.ranks.Board`).

A follower waits for a key that the leader (rank 0) sets, and the leader for one of each follower.
"""

from __future__ import annotations

import itertools
from typing import Any

from remora.core.errors import BadValue, CheckpointUnusable
from remora.core.ranks import Board, running_ranks

PATIENCE_S = 600.0
"""Ranks run in step; one that is this late has died, and the launcher ends the others."""
_instances = itertools.count()


class Coordinator:
    """One rank's end. Every rank makes one for each folder, in the same order.

    Args:
        store: a c10d store that all ranks share; only its clones are used.
        number: which of the job's folders it is for; counted by default.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world: int,
        *,
        patience_s: float = PATIENCE_S,
        number: int | None = None,
    ) -> None:
        self.rank, self.world = rank, world
        number = next(_instances) if number is None else number
        self._board = Board(store, f"remora/checkpoint/{number}", patience_s=patience_s)
        self._said, self._asked = itertools.count(), itertools.count()
        self._leaving = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def announce(self, value: Any) -> Any:
        """What the leader gives; followers wait for it. Called by all ranks in the same order."""
        key = f"said/{next(self._said)}"
        if self.leads:
            self._board.put(key, value)
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
        self._board.put(f"{what}/{self.rank}", value)

    def gather(self, what: str) -> list[Any]:
        """What the followers delivered about ``what``, by rank from 1 on; the leader waits."""
        return [self._get(f"{what}/{rank}") for rank in range(1, self.world)]

    def agreed_end(self, done: int) -> int | None:
        """The number of steps after which every rank may leave, once all have been told to end.

        To be asked by a rank that has been told, after each step; None until all have. Ranks in
        step are never more than one apart, so two beyond the furthest is ahead of every one.
        """
        if not self._leaving:
            self._leaving = True
            self._board.put(f"leaving/{self.rank}", done)
        keys = [f"leaving/{rank}" for rank in range(self.world)]
        if not self._board.has(keys):
            return None
        return max(int(self._get(key)) for key in keys) + 2

    def _get(self, key: str) -> Any:
        try:
            return self._board.get(key)
        except TimeoutError as error:
            raise CheckpointUnusable(
                f"rank {self.rank} waited for another rank in vain; every rank must open the "
                f"checkpoint folder and save at the same steps ({error})"
            ) from error


def coordinator(sharded: bool | None) -> Coordinator | None:
    """This process's end, where several ranks take part; None for a job of one.

    Args:
        sharded: None to take part wherever torch.distributed runs more than one rank.

    Raises:
        BadValue: asked for, but torch.distributed is not initialised.
    """
    running = running_ranks()
    if sharded and not _initialized():
        raise BadValue("sharded=True needs torch.distributed.init_process_group to be called first")
    if sharded is False or running is None:
        return None
    return Coordinator(*running)


def _initialized() -> bool:
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()
