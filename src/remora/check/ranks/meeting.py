"""Where the ranks of a job meet: each says what it did, and hears what the first to come said.

Nobody waits for anybody. The rank that comes first to a number of a topic leaves what it says
there; each that comes later hears it, and so every rank is compared with the same one. A rank that
is late, or has died, is one that nobody hears of.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import NamedTuple


class Said(NamedTuple):
    rank: int
    words: bytes


class Meeting(ABC):
    """One rank's end of it.

    Args:
        rank: this one.
        world: how many there are.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    @abstractmethod
    def first(self, topic: str, number: int, words: bytes) -> Said | None:
        """What another rank said of ``number`` before; None if none did, or if it is forgotten.

        Numbers of a topic grow; one that is far behind another rank's is forgotten.
        """

    @abstractmethod
    def tell(self, key: str, value: bytes) -> None:
        """For whoever asks for ``key``. Every rank that tells it tells the same."""

    @abstractmethod
    def told(self, key: str) -> bytes | None:
        """What was told before whatever was said that refers to it; None if it is gone."""


class Room:
    """A meeting within one process: of recorded ranks, one after another, and of threads.

    Args:
        most_bytes: past it nothing new is remembered.
    """

    def __init__(self, world: int, *, most_bytes: int | None = None) -> None:
        self.world = world
        self.left = most_bytes if most_bytes is not None else sys.maxsize
        self.said: dict[tuple[str, int], Said] = {}
        self.told: dict[str, bytes] = {}

    def seat(self, rank: int) -> Meeting:
        return _Seat(self, rank)


class _Seat(Meeting):
    def __init__(self, room: Room, rank: int) -> None:
        super().__init__(rank, room.world)
        self._room = room

    def first(self, topic: str, number: int, words: bytes) -> Said | None:
        room, key = self._room, (topic, number)
        if room.left <= 0:
            said = room.said.get(key)
        else:
            own = Said(self.rank, words)
            if (said := room.said.setdefault(key, own)) is own:
                room.left -= len(words)
        return said if said is not None and said.rank != self.rank else None

    def tell(self, key: str, value: bytes) -> None:
        self._room.told[key] = value

    def told(self, key: str) -> bytes | None:
        return self._room.told.get(key)
