"""What has to be made once for each connection that it is used over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from remora.remote.wire.channel import Channel

Made = TypeVar("Made")


class OverEach(Generic[Made]):
    """Makes it when it is first needed over a connection. Thread-safe.

    Who needs it over one connection never waits for what is made over another.
    """

    def __init__(self, make: Callable[[Channel], Made]) -> None:
        self._make = make
        self._places: WeakKeyDictionary[Channel, _Place[Made]] = WeakKeyDictionary()
        self._guard = threading.Lock()

    def over(self, channel: Channel) -> Made:
        """What was made for ``channel``; what making it raises is raised, and it is tried anew."""
        with self._guard:
            place = self._places.get(channel)
            if place is None:
                place = self._places[channel] = _Place()
        with place.guard:
            if not place.made:
                place.made.append(self._make(channel))
            return place.made[0]


class _Place(Generic[Made]):
    """One connection's: empty, or with the one thing made."""

    def __init__(self) -> None:
        self.made: list[Made] = []
        self.guard = threading.Lock()
