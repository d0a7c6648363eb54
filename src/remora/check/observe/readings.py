"""Numbers that have been read but may lie on a device still, and what is made of them there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

Numbers = dict[str, float]


class Reading(NamedTuple):
    """Values in one place."""

    values: Any
    """A tensor of one dimension, or a sequence of numbers."""
    conclude: Callable[[Sequence[float]], Numbers]
    """What the values say, by name. Called once, in the order in which the readings were taken."""

    @property
    def remote(self) -> bool:
        """Whether to ask for the values means to wait for a device."""
        device = getattr(self.values, "device", None)
        return device is not None and device.type != "cpu"

    def numbers(self) -> Numbers:
        values = self.values
        return self.conclude(values if isinstance(values, list) else values.tolist())


def told(numbers: Numbers) -> list[Reading]:
    """What is known already, as readings."""
    return [Reading([], lambda _: numbers)]


def numbers_of(readings: Iterable[Reading]) -> Numbers:
    """All in one; waits for devices."""
    found: Numbers = {}
    for one in readings:
        found.update(one.numbers())
    return found


def plain(number: Any) -> Any:
    """A 0-dim tensor on the host as a number; any other thing as it is."""
    device = getattr(number, "device", None)
    return number.item() if device is not None and device.type == "cpu" else number
