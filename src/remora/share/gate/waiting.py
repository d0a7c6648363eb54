"""What happens at the gate: a best-effort job waits until the policy lets it pass.

The policy is told what is seen in the slots: a number that has moved is a request, over or not. One
that began and ended between two looks counts as one that ended just now, so the job may wait a
little longer than it would have to, and never less.

A thread that waits first gives way to others of its process a few times, then sleeps: 20
microseconds, and more each time. All the while it holds no lock of Python's. Ten times a second it
looks after the jobs that the slots belong to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from remora.core.errors import BadValue
from remora.share.gate.expectation import Expectation
from remora.share.gate.in_flight import InFlight
from remora.share.gate.memory import SLOTS, Memory
from remora.share.system.turns import Turns

LOOK_NS = 100_000_000
"""How often to look after the owners of slots: one that was killed is forgotten within a second."""
UNIT_NS = 100_000
"""Where each piece of work is asked for, operators of so long together are one piece: a decision
takes about ten microseconds."""
_SPIN_NS = 20_000
_FIRST_SLEEP_NS = 20_000


@dataclass(frozen=True)
class Patience:
    """How a job waits.

    Raises:
        BadValue: no sleep, or no wait.
    """

    longest_sleep_ns: int = 200_000
    """Between two looks: what it may be late by once the gate is open, while nobody has the device.
    A fifth of a millisecond costs a waiting thread about one percent of a core."""

    def __post_init__(self) -> None:
        if self.longest_sleep_ns <= 0:
            raise BadValue(
                f"longest-sleep={self.longest_sleep_ns} ns: choose more than 0, such as 0.2ms"
            )


class Waiting:
    """One best-effort job at the gate of one device. Any of its threads may come.

    Args:
        turns: whose turn it is, by a policy.
        look: frees the slots of jobs that are dead, and tells the places of those whose jobs
            their users have stopped: they keep nobody.
        in_flight: what the job has in flight; None for a device that is done when an operator
            returns.
        now_ns: the clock of ``turns``.
    """

    def __init__(
        self,
        memory: Memory,
        turns: Turns,
        look: Callable[[], Collection[int]],
        *,
        in_flight: InFlight | None = None,
        patience: Patience | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self._memory, self._turns, self._look_around = memory, turns, look
        self._in_flight = in_flight
        self._longest_sleep_ns = (patience or Patience()).longest_sleep_ns
        self._now_ns, self._sleep_s = now_ns, sleep_s
        self._pairs = memory.pairs
        self._begun = list(memory.pairs[1::2])  # so whatever is under way is news
        self._heard = b""
        self._let_by: bytes | None = None
        """What the pairs were when the job was let pass, if nothing else mattered."""
        self._look_ns = self._asked_ns = 0
        self._expectation = Expectation()
        self._lock = threading.Lock()
        self._ended = False
        self.waited_ns = 0
        """How long threads have stood here, one after another."""

    def passing(self) -> None:
        """To be called before an operator, which may run when this returns."""
        with self._lock:
            if self._in_flight is not None:
                self._in_flight.make_room()
            now_ns = self._now_ns()
            if now_ns >= self._look_ns or self._pairs.tobytes() != self._let_by:
                self._ask(now_ns)
            if self._in_flight is not None:
                self._in_flight.issue()

    def runs_whole(self) -> bool:
        """Whether there is no need to slice: nobody has served for long."""
        return self._turns.runs_whole(self._now_ns())

    def end(self) -> None:
        """Who waits goes on, and nobody waits any more."""
        self._ended = True

    # ---------------------------------------------------------------- the wait

    def _ask(self, now_ns: int) -> None:
        if self._turns.asks_each_time and now_ns - self._asked_ns >= UNIT_NS:
            self._turns.asks_anew(now_ns)
        self._hear(now_ns)
        may_run, again_ns = self._turns.may_run(now_ns)
        if not may_run:
            now_ns = self._wait(now_ns, again_ns)
        self._asked_ns = now_ns
        self._let_by = None if self._turns.asks_each_time else self._heard

    def _wait(self, began_ns: int, again_ns: int | None) -> int:
        """Until the job may run; returns when that is."""
        if self._in_flight is not None:
            self._in_flight.pause()
        may_run, now_ns, sleep_ns = False, began_ns, _FIRST_SLEEP_NS
        while not (may_run or self._ended):
            if now_ns - began_ns < _SPIN_NS:
                self._sleep_s(0)
            else:
                until_ns = sleep_ns if again_ns is None else min(sleep_ns, again_ns - now_ns)
                self._sleep_s(max(0, until_ns) / 1e9)
                sleep_ns = min(2 * sleep_ns, self._longest_sleep_ns)
            now_ns = self._now_ns()
            self._hear(now_ns)
            may_run, again_ns = self._turns.may_run(now_ns)
        self.waited_ns += now_ns - began_ns
        if self._in_flight is not None:
            self._in_flight.go_on()
        return now_ns

    # ---------------------------------------------------------------- what others do

    def _hear(self, now_ns: int) -> None:
        """Tell the policy what has happened since the last time."""
        if now_ns >= self._look_ns:
            self._look(now_ns)
        heard = self._pairs.tobytes()
        if heard != self._heard:
            self._heard = heard
            numbers = memoryview(heard).cast("I")
            for place in range(SLOTS):
                self._hear_of(place, numbers[2 * place], numbers[2 * place + 1], now_ns)

    def _hear_of(self, place: int, begun: int, done: int, now_ns: int) -> None:
        if begun != self._begun[place]:
            self._begun[place] = begun
            expected_ns = self._expectation.of(place, *self._memory.noted(place))
            self._turns.begins(_job(place), now_ns, expected_ns)
        if begun == done:
            self._turns.ends(_job(place), now_ns)

    def _look(self, now_ns: int) -> None:
        self._look_ns = now_ns + LOOK_NS
        for place in self._look_around():
            self._turns.ends(_job(place), now_ns)


def _job(place: int) -> str:
    return f"slot {place}"
