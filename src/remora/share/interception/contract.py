"""The contract of a hook: it stands before every operator of this process, and asks at a gate.

What costs is what happens before each of many thousand operators a second, so a gate is two things:
words in memory that tell with a look that it is open, and a function that is called where they do
not, or every so many operators. ``tests/conformance/test_hook.py`` holds each hook to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Gate:
    """Where operators pass.

    Whoever shuts it counts up the first number of a pair, and whoever opens it, which may be a
    device, makes the second number the same. It is open where that is so of every pair.
    """

    pairs: memoryview
    """Of native unsigned 32-bit numbers (format ``I``), an even count of them; may be shared with
    other processes, which change them at any time."""
    passing: Callable[[], object]
    """Called before an operator that finds the gate shut, or whose turn it is by ``every``; the
    operator runs when it returns. By any thread that runs operators. Operators that it runs itself
    pass freely."""
    every: int = 0
    """Call it every so many operators even where the gate is open; 0: never."""


class Hook(ABC):
    """One way of standing there. At most one of a process is begun at a time."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it is, in a few words, for tables."""

    @abstractmethod
    def begin(self, gate: Gate) -> None:
        """Stand before operators from now on: forward, backward, optimizer steps, in every thread
        that it can see.

        Raises:
            Unavailable: it cannot be had here; the message says why.
            BadValue: it has begun already.
        """

    @abstractmethod
    def end(self) -> None:
        """Stand there no longer. Who waits at the gate goes on once that lets it. Twice is fine."""

    @property
    @abstractmethod
    def operators(self) -> int:
        """How many have passed since :meth:`begin`."""
