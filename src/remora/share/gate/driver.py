"""The contract of a driver: what a gate asks of a device; and the CPU, of which it asks little.

A device takes work and does it later, in the order of each stream. So what is to happen behind
that work is asked for, too: a mark is a place behind all that has been issued by then.
``tests/share/gate/fake_driver.py`` has one whose time a test moves.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence


class Mark(ABC):
    """A place behind what had been issued to a device, on one stream."""

    @abstractmethod
    def is_reached(self) -> bool:
        """Whether the device is done with all before it."""

    @abstractmethod
    def wait(self) -> None:
        """Until it is. Other threads may run meanwhile."""


class Driver(ABC):
    """One device, as this process uses it."""

    device: str
    """Tells it from every other device of the machine, the same in every process."""
    is_asynchronous: bool = True
    """Whether operators return before the device is done with them."""

    @abstractmethod
    def mark(self) -> Mark:
        """A mark behind what this thread has issued."""

    @abstractmethod
    def elapsed_ns(self, first: Mark, last: Mark) -> int:
        """The device's time between two marks that are reached."""

    @abstractmethod
    def write_behind(self, words: memoryview, at: int, value: int, after: Sequence[Mark]) -> None:
        """``words[at] = value``, by the device, behind what this thread has issued and ``after``.

        Of several such writes none overtakes another. The words are of one page of shared memory,
        the same each time.
        """

    @abstractmethod
    def is_capturing(self) -> bool:
        """Whether this thread's work is being recorded and not done; it must not be marked."""


class CpuMark(Mark):
    """A time: whatever returned by then is done."""

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def is_reached(self) -> bool:
        return True

    def wait(self) -> None:
        """Nothing to wait for."""


class CpuDriver(Driver):
    """The CPU: an operator is done when it returns."""

    device = "cpu"
    is_asynchronous = False

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns

    def mark(self) -> Mark:
        return CpuMark(self._now_ns())

    def elapsed_ns(self, first: Mark, last: Mark) -> int:
        if isinstance(first, CpuMark) and isinstance(last, CpuMark):
            return last.at_ns - first.at_ns
        raise TypeError("marks of another driver")

    def write_behind(self, words: memoryview, at: int, value: int, after: Sequence[Mark]) -> None:
        words[at] = value

    def is_capturing(self) -> bool:
        return False
