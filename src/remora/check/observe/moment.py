"""One moment, between two steps of the program: what several want to read then is read once."""

from __future__ import annotations

from typing import Any


class Moment(dict[object, Any]):
    """By who reads it, what was read.

    Lasts as long as the callback that is under way, and keeps nothing alive beyond it.
    """
