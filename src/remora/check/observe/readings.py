"""Numbers that have been read but may lie on a device still, and what is made of them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


Readings = list[Reading | Numbers]
"""Some may be known already."""


def are_remote(readings: Readings) -> bool:
    """Whether any lies on a device that would have to be waited for."""
    for one in readings:  # noqa: SIM110  paid at every step: a generator costs more
        if type(one) is Reading and one.remote:
            return True
    return False


def numbers_of(readings: Readings) -> Numbers:
    """All in one; waits for devices."""
    found: Numbers = {}
    for one in readings:
        found.update(one if type(one) is dict else one.numbers())  # type: ignore[union-attr]
    return found


def plain(number: Any) -> Any:
    """A 0-dim tensor on the host as a number; any other thing as it is."""
    device = getattr(number, "device", None)
    return number.item() if device is not None and device.type == "cpu" else number
