"""What a subscriber holds: the way to stop, and what to do when its callback raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

in_callback: set[int] = set()
"""Threads that are inside a callback: what those call is not the program's, and no tap tells it."""


class Subscription:
    """A subscription to a tap. It ends by :meth:`remove`, or when its owner is detached."""

    __slots__ = ("_remove", "fail", "live")

    def __init__(
        self, remove: Callable[[Subscription], None], fail: Callable[[Exception], None]
    ) -> None:
        self._remove = remove
        self.fail = fail
        """Called by the tap with what a callback raised."""
        self.live = True

    def remove(self) -> None:
        """End it. Calling it twice does no harm; calling it within a callback is allowed."""
        if self.live:
            self.live = False
            remove, self._remove = self._remove, _nothing  # it holds the tap
            remove(self)


def _nothing(_: Subscription) -> None:
    """What is left to do for a subscription that has ended."""


class Admit(Protocol):
    """Makes a subscription in the name of whoever is subscribing."""

    def __call__(self, where: str, remove: Callable[[Subscription], None]) -> Subscription:
        """``where`` completes the sentence "failed …"; ``remove`` unhooks it from the tap.

        The subscription is dead from the start if its owner has left the job.
        """
        ...
