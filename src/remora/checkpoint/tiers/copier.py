"""Copying committed checkpoints to a shelf, in a thread of its own, never in training's way.

The newest committed checkpoint is copied; those that were committed while the one before was on
its way are passed over. Every chunk is read back from its slot and checked against the hash it was
committed with before it is sent, so a damaged slot is never copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from remora.checkpoint.folder import Folder
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.reading import Found, PartReader
from remora.checkpoint.tiers.contract import KEEP, Copy, Owner, Part, Shelf, Unowned
from remora.checkpoint.tiers.pacing import Backoff, Pace
from remora.checkpoint.tiers.verified import opened, pieces
from remora.core.errors import CheckpointDamaged, RemoraError

Say = Callable[[str], None]


@dataclass
class CopyCounters:
    """What has been copied to one shelf since its copier was made."""

    copied: int = 0
    superseded: int = 0
    """Committed, but a newer one was there before it was their turn."""
    failed: int = 0
    """Attempts that came to nothing; the checkpoint, or a newer one, is tried again."""
    damaged: int = 0
    """Not copied, because the slot no longer holds what was committed."""
    bytes_sent: int = 0
    """Of whole copies."""
    last_step: int | None = None
    """The newest that is there whole."""


class _Stopped(Exception):
    """The job ends and does not wait for this copy."""


class Copier:
    """Copies what ``folder`` commits to ``shelf``.

    Args:
        run: gives the name of the run, when it is first needed.
        who: host and process, for people to read.
        keep: how many copies stay there.
        bytes_s: the most bytes to send in a second; None for as many as go.
        say: what becomes of a sentence for the user.
        backoff: how long to wait after a failure.
    """

    def __init__(
        self,
        folder: Folder,
        shelf: Shelf,
        *,
        run: Callable[[], str],
        who: str,
        say: Say,
        keep: int = KEEP,
        bytes_s: float | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._folder, self._shelf, self._run, self._who = folder, shelf, run, who
        self._keep, self._pace, self._say = keep, Pace(bytes_s), say
        self._backoff = backoff or Backoff()
        self.counters = CopyCounters()
        self._owner: Owner | None = None
        self._due: Entry | None = None
        self._retry_at = 0.0
        self._changed = threading.Condition()
        self._closing = self._abandoned = self._refused = False
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ from the committing thread

    def committed(self, entry: Entry) -> None:
        """``entry`` is durable here, and is to be copied. Returns at once."""
        with self._changed:
            if self._refused or self._closing or (self._due and self._due > entry):
                return
            self.counters.superseded += self._due is not None
            self._due = entry
            if self._thread is None:
                name = "remora-checkpoint-copy"
                self._thread = threading.Thread(target=self._copy_all, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    # ------------------------------------------------------------ in the copying thread

    def _copy_all(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self.copy(entry)
            except _Stopped:
                return
            except BaseException as error:  # whatever it is, training goes on
                self._refuse(f"{self._shelf.place}: {type(error).__name__}: {error}")

    def _next(self) -> Entry | None:
        """What to copy next, when it is time; None at the end."""
        with self._changed:
            while True:
                wait = self._retry_at - time.monotonic()
                if self._abandoned or (self._closing and (wait > 0 or self._due is None)):
                    return None
                if self._due is not None and wait <= 0:
                    entry, self._due = self._due, None
                    return entry
                self._changed.wait(wait if self._due is not None else None)

    def copy(self, entry: Entry) -> None:
        """Copy ``entry`` now; a failure is said once, and it is due again after a while."""
        try:
            with self._folder.pinned(entry) as held:
                if held:
                    self._put(entry)
                    self._succeeded(entry)
                else:
                    self.counters.superseded += 1
        except CheckpointDamaged as error:
            self._damaged(entry, error)
        except RemoraError as error:
            self._refuse(str(error))
        except OSError as error:
            self._failed(entry, error)

    def _put(self, entry: Entry) -> None:
        if self._owner is None:
            self._owner = self._shelf.claim(self._run(), self._who)
        with opened(self._folder.storage, Found(entry, "live")) as reader:
            sizes = tuple(part.layout.size for part in reader.parts)
            copy = Copy(self._owner.generation, self._owner.session, entry, sizes)
            try:
                self._shelf.put(copy, [self._paced(part) for part in reader.parts])
            except Unowned:
                self._owner = None
                raise
        self.counters.bytes_sent += copy.nbytes

    def _paced(self, part: PartReader) -> Part:
        for piece in pieces(part):
            yield piece
            self._wait(self._pace.wait_s(len(piece), time.monotonic()))

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._abandoned, max(seconds, 0)):
                raise _Stopped

    def _succeeded(self, entry: Entry) -> None:
        self.counters.copied += 1
        self.counters.last_step = entry.step
        if self._backoff.failures:
            self._say(f"copying to {self._shelf.place} works again: step {entry.step:,} is there")
        self._backoff.succeeded()
        self._told.discard("copy")
        try:
            self._shelf.retain(self._keep)
            self._told.discard("retain")
        except OSError as error:
            reason = error.strerror or error
            self._say_once(
                "retain", f"old copies at {self._shelf.place} could not be removed: {reason}"
            )

    def _damaged(self, entry: Entry, error: CheckpointDamaged) -> None:
        if entry not in self._folder.live:  # it was moved to the archive before it was opened
            self.counters.superseded += 1
            return
        self.counters.damaged += 1
        self._say(f"step {entry.step:,} is not copied to {self._shelf.place}: {error}")

    def _failed(self, entry: Entry, error: OSError) -> None:
        self.counters.failed += 1
        self._say_once(
            "copy",
            f"step {entry.step:,} could not be copied to {self._shelf.place}: "
            f"{error.strerror or error}; it is tried again, and training goes on",
        )
        with self._changed:
            self._retry_at = time.monotonic() + self._backoff.failed()
            self._due = max(filter(None, (self._due, entry)))

    def _refuse(self, reason: str) -> None:
        with self._changed:
            self._refused, self._due = True, None
        self.counters.failed += 1
        self._say(f"copying ends, and training goes on: {reason}")

    def _say_once(self, what: str, line: str) -> None:
        """Until ``what`` works again, however its next failure is worded."""
        if what not in self._told:
            self._told.add(what)
            self._say(line)

    # ------------------------------------------------------------ the end

    def close(self, wait_s: float) -> None:
        """Let what is under way and due be copied, for at most ``wait_s`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)
            with self._changed:
                self._abandoned = True
                self._changed.notify_all()
            if self._thread.is_alive() or self._due is not None:
                there = self.counters.last_step
                newest = "none" if there is None else f"that of step {there:,}"
                self._say(
                    f"the newest checkpoint was not copied to {self._shelf.place} before the end; "
                    f"the newest there is {newest}"
                )
        self._shelf.close()
