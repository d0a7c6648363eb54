"""The numbers that operators of a segment are given, each of them once."""

from __future__ import annotations


class Scalars:
    """Those of one segment, numbered as they come."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._numbers: dict[float | str, int] = {}

    def number(self, value: float) -> int:
        """The number of ``value``."""
        # 0.0 and -0.0 are equal and not the same; what is no number equals nothing.
        key = value if value and value == value else repr(value)
        number = self._numbers.setdefault(key, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number
