"""Which slot may be written, and which checkpoints a commit keeps. Pure: no storage, no clock.

A slot is *free*, *taken* (a checkpoint is being written into it), *live* (the newest durable
record lists it) or *leaving* (a record that no longer lists it is not durable yet). Only free
slots are handed out, so nothing that a durable record lists is ever overwritten. A *pinned* slot
is being copied elsewhere; it is not handed out either, and for each pin there is a slot to spare,
so a save never waits for a copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from remora.checkpoint.layout.records import Entry


@dataclass(frozen=True)
class Decision:
    """What a commit would do."""

    live: tuple[Entry, ...]
    """What the record is to list, newest first."""
    gives_up: tuple[Entry, ...]
    """What it lists no longer."""


class Slots:
    """The slots of one folder.

    Args:
        keep: how many committed checkpoints stay; at least 2, so that one may be damaged.
        in_flight: how many may be written at once.
        live: what the newest record lists.
        spare: how many may be pinned at once; there are so many more slots.
    """

    def __init__(
        self, keep: int, in_flight: int, live: Iterable[Entry] = (), *, spare: int = 0
    ) -> None:
        self.keep, self.in_flight, self.spare = keep, in_flight, spare
        self._live: tuple[Entry, ...] = tuple(sorted(live, reverse=True))
        self._taken: set[int] = set()
        self._leaving: set[int] = set()
        self._pinned: list[int] = []

    @property
    def live(self) -> tuple[Entry, ...]:
        """The live checkpoints, newest first."""
        return self._live

    @property
    def taken(self) -> frozenset[int]:
        return frozenset(self._taken)

    @property
    def count(self) -> int:
        """How many slots there may be in all."""
        return self.keep + self.in_flight + self.spare

    def take(self, prefer: Iterable[int] = ()) -> int | None:
        """A free slot, now taken; None where as many are in flight as may be.

        Args:
            prefer: slots whose files are there: one of these, if one is free.
        """
        if len(self._taken) >= self.in_flight:
            return None
        busy = {entry.slot for entry in self._live} | self._taken | self._leaving
        busy.update(self._pinned)
        choice = itertools.chain(sorted(prefer), itertools.count())
        slot = next(number for number in choice if number not in busy)
        self._taken.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """What was being written into ``slot`` came to nothing."""
        self._taken.discard(slot)

    def pin(self, entry: Entry) -> bool:
        """Keep ``entry``'s slot as it is until :meth:`unpin`, whatever is committed meanwhile.

        False if it is not live any more, or no slot is to spare for one more pin.
        """
        if entry not in self._live or len(self._pinned) >= self.spare:
            return False
        self._pinned.append(entry.slot)
        return True

    def unpin(self, entry: Entry) -> None:
        """Undo one :meth:`pin`."""
        self._pinned.remove(entry.slot)

    def decide(self, entry: Entry) -> Decision | None:
        """What committing ``entry`` means; None if it is older than all that are kept."""
        everything = sorted((*self._live, entry), reverse=True)
        live, gives_up = everything[: self.keep], everything[self.keep :]
        return None if entry in gives_up else Decision(tuple(live), tuple(gives_up))

    def begin(self, decision: Decision) -> None:
        """The record is about to be written: what it gives up is neither live nor free."""
        self._leaving |= {entry.slot for entry in decision.gives_up}

    def committed(self, decision: Decision) -> None:
        """The record is durable."""
        self._live = decision.live
        self._taken -= {entry.slot for entry in decision.live}
        self._leaving.clear()

    def aborted(self) -> None:
        """Whether the record became durable is not known: what it gives up is still live."""
        self._leaving.clear()

    def drop(self, entry: Entry) -> Decision:
        """What giving up ``entry``, because it is damaged or not wanted, means."""
        return Decision(tuple(each for each in self._live if each != entry), (entry,))
