"""The copies of one checkpointer's checkpoints: made as they are committed, read when needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from remora.checkpoint.folder import Folder
from remora.checkpoint.restore import Say, restore
from remora.checkpoint.sharded.coordinator import Coordinator
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.tiers.contract import KEEP, Shelf
from remora.checkpoint.tiers.copier import Copier, CopyCounters
from remora.checkpoint.tiers.run_name import RunName
from remora.checkpoint.tiers.shelves import open_shelf
from remora.checkpoint.tiers.view import ShelfStorage
from remora.core.errors import BadValue, CheckpointUnusable, RemoraError

CLOSE_S = 60.0
"""Long enough for most checkpoints to arrive, short enough for most jobs to end in."""
LEAST_BYTES_S = 1_000_000
"""Slower than this, a piece on its way would look like a peer that has died."""


class Elsewhere:
    """Shelves and their copiers. Without shelves, nothing but the folder itself.

    Args:
        urls: where to copy to.
        keep: how many copies stay at each.
        bytes_s: the most bytes a second to each; None for as many as go.
        say: what becomes of a sentence for the user.
        ranks: where several ranks save and restore together; rank 0 copies for all of them.

    Raises:
        BadValue: a URL is none, or a number is out of its range.
        Unavailable: a package for a URL is not installed.
    """

    def __init__(
        self,
        urls: str | Sequence[str] | None,
        *,
        say: Say,
        keep: int = KEEP,
        bytes_s: float | None = None,
        ranks: Coordinator | None = None,
    ) -> None:
        _check(keep, bytes_s)
        self._ranks = ranks
        names = [urls] if isinstance(urls, str) else list(urls or ())
        self._shelves: dict[str, Shelf] = {url: open_shelf(url) for url in names}
        self._copiers: dict[str, Copier] = {}
        self._keep, self._bytes_s, self._say = keep, bytes_s, say

    @property
    def count(self) -> int:
        """How many places: so many checkpoints may be read from their slots at once."""
        return len(self._shelves)

    @property
    def counters(self) -> dict[str, CopyCounters]:
        """What has been copied, by URL."""
        return {url: copier.counters for url, copier in self._copiers.items()}

    def attach(self, folder: Folder) -> None:
        """From now on, copy what ``folder`` commits; it has :attr:`count` slots to spare."""
        if not self._leads:
            return
        run, who = RunName(folder.storage), f"process {os.getpid()} on {socket.gethostname()}"
        for url, shelf in self._shelves.items():
            copier = Copier(
                folder,
                shelf,
                run=run,
                who=who,
                say=self._say,
                keep=self._keep,
                bytes_s=self._bytes_s,
            )
            self._copiers[url] = copier
            folder.on_commit.append(copier.committed)

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Let what is under way be copied, for at most ``wait_s`` seconds a place."""
        for copier in self._copiers.values():
            copier.close(wait_s)

    # ------------------------------------------------------------ restoring

    def restore(
        self, local: Storage, parts: Parts, step: int | None, source: str | None, *, strict: bool
    ) -> int | None:
        """As :func:`remora.checkpoint.restore.restore`, from ``local`` or from a copy.

        Args:
            source: ``"local"``: the folder alone; ``"second"``: the copies alone; a URL: the
                copies there; None: the folder, and its copies where none in it is whole.

        Raises:
            BadValue: ``source`` is something else.
            CheckpointUnusable: as there; or a place that may have a copy cannot be reached.
        """
        into = _Into(parts, step, strict, self._say, self._ranks)
        if source == "local" or (source is None and not self._shelves):
            return into.restore(local)
        if source is None:
            try:
                done = into.restore(local)
            except CheckpointUnusable as error:
                self._say(f"the folder: {error}")
                return self._from_copies(local, into, self._shelves, str(error))
            return self._from_copies(local, into, self._shelves) if done is None else done
        return self._from_copies(local, into, self._named(source))

    def _named(self, source: str) -> dict[str, Shelf]:
        if source == "second":
            return self._shelves
        if "://" not in source:
            raise BadValue(f"source={source!r}: choose 'local', 'second' or a URL")
        return {source: self._shelves.get(source) or open_shelf(source)}

    def _from_copies(
        self, local: Storage, into: _Into, shelves: dict[str, Shelf], trouble: str = ""
    ) -> int | None:
        views, troubles = self._views(shelves)
        for url, view in views.items():
            try:
                done = into.restore(view)
            except (CheckpointUnusable, OSError) as error:
                troubles.append(f"{url}: {error}")
                continue
            if done is not None:
                self._say(f"step {done:,} was restored from its copy at {url}")
                if url in self._shelves and self._leads:
                    self._adopt(local, view.shelf)
                return done
        troubles = [*filter(None, [trouble]), *troubles]
        if troubles:
            raise CheckpointUnusable(
                f"there is no checkpoint to go on from: {'; '.join(troubles)}; mend that, or "
                "begin anew with source='local' and an empty folder"
            )
        return None

    def _views(self, shelves: dict[str, Shelf]) -> tuple[dict[str, ShelfStorage], list[str]]:
        """What can be reached, that with the most steps first; and what cannot, in words. All
        ranks go by what rank 0 reaches."""
        views: dict[str, ShelfStorage] = {}
        troubles = []
        for url, shelf in shelves.items():
            try:
                views[url] = ShelfStorage(shelf)
            except OSError as error:
                troubles.append(f"{url} cannot be reached: {error.strerror or error}")
            except RemoraError as error:
                troubles.append(str(error))
        order = sorted(views, key=lambda url: -views[url].last_step)
        if self._ranks is not None:
            order = self._ranks.announce(order)
            if not set(order) <= set(views):
                raise CheckpointUnusable(f"rank {self._ranks.rank}: {'; '.join(troubles)}")
        return {url: views[url] for url in order}, troubles

    @property
    def _leads(self) -> bool:
        return self._ranks is None or self._ranks.leads

    def _adopt(self, local: Storage, shelf: Shelf) -> None:
        """The folder goes on with the run whose checkpoint was just restored."""
        try:
            owner = shelf.owner()
            if owner is not None:
                RunName(local).become(owner.run)
        except OSError as error:
            self._say(f"copying to {shelf.place} may be refused as another run's: {error}")


@dataclass(frozen=True)
class _Into:
    """What a checkpoint is restored into."""

    parts: Parts
    step: int | None
    strict: bool
    say: Say
    ranks: Coordinator | None

    def restore(self, storage: Storage) -> int | None:
        return restore(
            storage, self.parts, self.step, strict=self.strict, say=self.say, ranks=self.ranks
        )


def _check(keep: int, bytes_s: float | None) -> None:
    if keep < 1:
        raise BadValue(f"second_keep={keep}: choose 1 or more; 2 survive damage to one")
    if bytes_s is not None and not bytes_s >= LEAST_BYTES_S:
        raise BadValue(f"second_bytes_s={bytes_s}: choose {LEAST_BYTES_S:,} or more, or None")
