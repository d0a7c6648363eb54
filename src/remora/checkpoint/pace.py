"""How often to save: at a fixed interval, or as measuring says."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from remora.checkpoint.policy.bandwidth import BusyTime
from remora.checkpoint.policy.observed import Tuner, Written
from remora.checkpoint.policy.records import Choice, Wanted


class Pace(ABC):
    """Says after each step whether a checkpoint is due."""

    @abstractmethod
    def due(self, done: int, *, busy: bool, stall_s: float) -> bool:
        """``done`` steps are done; during the last one a save was under way (``busy``) and the
        training thread waited ``stall_s`` for it."""

    def began(self) -> None:  # noqa: B027  a fixed interval learns nothing
        """A save has begun."""

    def ended(self, nbytes: int | None, latency_s: float, copy_s: float) -> None:  # noqa: B027
        """A save of ``nbytes`` was durable after ``latency_s``; None: it came to nothing."""


class Fixed(Pace):
    """Every ``every`` steps."""

    def __init__(self, every: int) -> None:
        self._every = every

    def due(self, done: int, *, busy: bool, stall_s: float) -> bool:
        return done % self._every == 0


class Measured(Pace):
    """As often as ``wanted`` allows, by what steps and saves are seen to take.

    Args:
        say: told, in a sentence, of the first choice and of every change.
    """

    def __init__(
        self,
        wanted: Wanted,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._say, self._clock = say, clock
        self._tuner = Tuner(wanted, state_bytes=1)  # the first save tells how large it is
        self._busy = BusyTime()
        self._last: float | None = None
        self._said: int | None = None
        self._guard = threading.Lock()

    @property
    def choice(self) -> Choice | None:
        """The present one; None while still learning."""
        return self._tuner.choice

    def due(self, done: int, *, busy: bool, stall_s: float) -> bool:
        now = self._clock()
        last, self._last = self._last, now
        if last is None:
            return False
        with self._guard:
            seconds = now - last
            return self._tuner.step(seconds, busy=busy, stall_s=min(stall_s, seconds))

    def began(self) -> None:
        with self._guard:
            self._busy.began(self._clock())

    def ended(self, nbytes: int | None, latency_s: float, copy_s: float) -> None:
        with self._guard:
            now = self._clock()
            self._busy.ended(now)
            busy_s = self._busy.take(now)
            if nbytes is None or busy_s <= 0:
                return
            written = Written(size=nbytes, busy_s=busy_s, latency_s=latency_s, copy_s=copy_s)
            choice = self._tuner.durable(written)
        if choice is not None and choice.every != self._said:
            self._said = choice.every
            self._say(choice.sentence())
