"""The copies of one checkpointer's checkpoints: made as they are committed, read when needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from remora.checkpoint.folder import Folder
from remora.checkpoint.restore import restore
from remora.checkpoint.state.parts import Parts
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

    Raises:
        BadValue: a URL is none, or a number is out of its range.
        Unavailable: a package for a URL is not installed.
    """

    def __init__(
        self,
        urls: str | Sequence[str] | None,
        *,
        say: Callable[[str], None],
        keep: int = KEEP,
        bytes_s: float | None = None,
    ) -> None:
        _check(keep, bytes_s)
        names = [urls] if isinstance(urls, str) else list(urls or ())
        self._shelves: dict[str, Shelf] = {url: open_shelf(url) for url in names}
        self._copiers: dict[str, Copier] = {}
        self._keep, self._bytes_s, self._say = keep, bytes_s, say
        self._folder: Folder | None = None

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
        self._folder = folder
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
        self, folder: Folder, parts: Parts, step: int | None, *, source: str | None, strict: bool
    ) -> int | None:
        """As :func:`remora.checkpoint.restore.restore`, from ``folder`` or from a copy.

        Args:
            source: ``"local"``: the folder alone; ``"second"``: the copies alone; a URL: the
                copies there; None: the folder, and the copies where it has none whole.
        """
        if source is not None and source not in ("local", "second") and "://" not in source:
            raise BadValue(f"source={source!r}: choose 'local', 'second' or a URL")
        unusable: CheckpointUnusable | None = None
        if source in (None, "local"):
            try:
                done = restore(folder.storage, parts, step, strict=strict, say=self._say)
            except CheckpointUnusable as error:
                unusable = error
            if unusable is None and done is not None:
                return done
        if source == "local" or (source is None and not self._shelves):
            if unusable is not None:
                raise unusable
            return None
        return self._from_copies(folder, parts, step, source, strict, unusable)

    def _from_copies(
        self,
        folder: Folder,
        parts: Parts,
        step: int | None,
        source: str | None,
        strict: bool,
        unusable: CheckpointUnusable | None,
    ) -> int | None:
        shelves = self._shelves
        if source not in (None, "second"):
            shelves = {source: self._shelves.get(source) or open_shelf(source)}
        views, troubles = _views(shelves)
        for url, view in views:
            try:
                done = restore(view, parts, step, strict=strict, say=self._say)
            except CheckpointUnusable as error:
                troubles.append(f"{url}: {error}")
                continue
            if done is not None:
                self._say(f"step {done:,} was restored from its copy at {url}")
                if url in self._shelves:
                    _adopt(folder, view.shelf)
                return done
        if troubles:
            raise CheckpointUnusable(
                f"no checkpoint in the folder can be used, nor any copy ({'; '.join(troubles)}); "
                "mend that, or begin anew with restore(source='local') and an empty folder"
            )
        if unusable is not None:
            raise unusable
        return None


def _views(shelves: dict[str, Shelf]) -> tuple[list[tuple[str, ShelfStorage]], list[str]]:
    """What can be reached, that with the most steps first; and what cannot, in words."""
    views: list[tuple[str, ShelfStorage]] = []
    troubles = []
    for url, shelf in shelves.items():
        try:
            views.append((url, ShelfStorage(shelf)))
        except OSError as error:
            troubles.append(f"{url} cannot be reached: {error.strerror or error}")
        except RemoraError as error:
            troubles.append(str(error))
    views.sort(key=lambda each: -(each[1].newest.entry.step if each[1].newest else -1))
    return views, troubles


def _adopt(folder: Folder, shelf: Shelf) -> None:
    """The folder goes on with the run whose checkpoint was just restored."""
    owner = shelf.owner()
    if owner is not None:
        RunName(folder.storage).become(owner.run)


def _check(keep: int, bytes_s: float | None) -> None:
    if keep < 1:
        raise BadValue(f"second_keep={keep}: choose 1 or more; 2 survive damage to one")
    if bytes_s is not None and not bytes_s >= LEAST_BYTES_S:
        raise BadValue(f"second_bytes_s={bytes_s}: choose {LEAST_BYTES_S:,} or more, or None")
