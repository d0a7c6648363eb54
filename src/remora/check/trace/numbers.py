"""Numbers that stand for what repeats, while a trace is written."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar
from weakref import ref

from remora.check.trace.events import MOST_NUMBERS

Name = TypeVar("Name", bound=Hashable)


class Numbers(Generic[Name]):
    """Gives each new name the next number; when there are too many, all are forgotten."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self.known: dict[Name, int] = {}
        self._most = most

    def make_room(self, count: int) -> bool:
        """Forget all unless so many more fit; whether it did. Numbers that one line is to hold
        need room together, or the last might take the place of the first.
        """
        if len(self.known) + count <= self._most:
            return False
        self.known.clear()
        return True

    def take(self, name: Name) -> int:
        self.make_room(1)
        number = self.known[name] = len(self.known)
        return number


class Identities:
    """Gives each identity a number of its own, for as long as what it is of is there."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._known: dict[Hashable, int] = {}
        self._next, self._most = 0, most

    def number(self, identity: Any) -> int:
        number = self._known.get(identity)
        if number is None:
            if len(self._known) >= self._most:
                self._forget()
            number = self._known[identity] = self._next
            self._next += 1
        return number

    def _forget(self) -> None:
        """What is gone. As many as there are again may come before this is done again."""
        self._known = {one: number for one, number in self._known.items() if _is_there(one)}
        self._most = max(self._most, 2 * len(self._known))


def _is_there(identity: Any) -> bool:
    return not any(type(part) is ref and part() is None for part in identity)
