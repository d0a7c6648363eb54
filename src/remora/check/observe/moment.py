"""One moment, between two steps of the program: what several want to read then is read once."""

from __future__ import annotations

from typing import Any


class Moment:
    """Lasts as long as the callback that is under way, and keeps nothing alive beyond it."""

    __slots__ = ("read",)

    def __init__(self) -> None:
        self.read: dict[object, Any] = {}
        """By who read it."""
