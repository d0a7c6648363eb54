"""A best-effort job at the gate: which device it is at, and what it does before each operator."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remora.share.gate.cuda import CudaDriver
from remora.share.gate.device import cuda_in_use
from remora.share.gate.driver import CpuDriver, Driver
from remora.share.gate.in_flight import InFlight
from remora.share.gate.memory import Memory
from remora.share.gate.neighbours import Neighbours
from remora.share.gate.waiting import Patience, Waiting
from remora.share.policies.registry import Choice
from remora.share.system import processes
from remora.share.system.roster import Roster
from remora.share.system.turns import Turns, policy_of

DEVICE_LOOK_NS = 1_000_000_000
"""How often to look which device the job uses: torch's account of memory takes a while to read."""


@dataclass(frozen=True)
class Terms:
    """On what terms a job passes."""

    policy: Choice
    in_flight_ns: int
    longest_wait_ns: int
    patience: Patience


class BestEffort:
    """One job.

    Args:
        waits_for_cuda: it is at no gate until it has CUDA memory, and then at that device's.
        failed: is told why, once, when something here goes wrong; all pass freely then.

    Raises:
        RosterUnusable: there is no gate to be had.
    """

    def __init__(
        self,
        roster: Roster,
        terms: Terms,
        *,
        waits_for_cuda: bool,
        failed: Callable[[str], object],
        proc: Path = processes.PROC,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._roster, self._terms, self._proc = roster, terms, proc
        self._failed, self._now_ns = failed, now_ns
        self._waits_for_cuda = waits_for_cuda
        self._pid = os.getpid()
        self._ended = False
        self._lock = threading.Lock()
        self._cuda_index: int | None = None
        self._look_ns = 0
        self._memory: Memory | None = None
        self._neighbours: Neighbours | None = None
        self._waiting: Waiting | None = None
        self._before_ns = 0
        if not waits_for_cuda:
            self._go_to(CpuDriver())

    @property
    def pairs(self) -> memoryview:
        """What a hook may look at: of no gate, and always open, while the device is not known."""
        if self._waits_for_cuda or self._memory is None:
            return memoryview(bytearray(8)).cast("I")
        return self._memory.pairs

    @property
    def waited_ns(self) -> int:
        """How long the job has stood at gates."""
        return self._before_ns + (0 if self._waiting is None else self._waiting.waited_ns)

    def runs_whole(self) -> bool:
        """Whether there is no need to slice."""
        return self._waiting is None or self._waiting.runs_whole()

    def passing(self) -> None:
        """To be called before an operator, which may run when this returns."""
        if self._ended or os.getpid() != self._pid:
            return
        try:
            if self._waits_for_cuda:
                self._find_device()
            if self._waiting is not None:
                self._waiting.passing()
        except Exception as error:  # the program's operator is not to fail by it
            self.end()
            self._failed(f"{type(error).__name__}: {error}".splitlines()[0])

    def end(self) -> None:
        """All pass freely from now on."""
        self._ended = True
        if self._waiting is not None:
            self._waiting.end()

    def close(self) -> None:
        """Leave the gate. Calling it twice does no harm."""
        self.end()
        if self._neighbours is not None:
            self._neighbours.close()
        if self._memory is not None:
            self._memory.close()

    # ---------------------------------------------------------------- which gate

    def _find_device(self) -> None:
        """Look again now and then: a program may have begun with a little on the first device."""
        now_ns = self._now_ns()
        if now_ns < self._look_ns:
            return
        index = cuda_in_use()
        if index is None:
            return
        self._look_ns = now_ns + DEVICE_LOOK_NS
        with self._lock:
            if index != self._cuda_index:
                self._cuda_index = index
                self._go_to(CudaDriver(index))

    def _go_to(self, driver: Driver) -> None:
        self._leave()
        terms, now_ns = self._terms, self._now_ns()
        self._memory = memory = Memory(self._roster, driver.device)
        self._neighbours = Neighbours(self._roster, memory, self._proc)
        cap = InFlight(driver, terms.in_flight_ns) if driver.is_asynchronous else None
        self._waiting = Waiting(
            memory,
            Turns(policy_of(terms.policy), terms.longest_wait_ns, now_ns),
            self._neighbours,
            in_flight=cap,
            patience=terms.patience,
            now_ns=self._now_ns,
        )

    def _leave(self) -> None:
        if self._waiting is not None:
            self._before_ns = self.waited_ns
            self._waiting.end()
            self._waiting = None
        if self._neighbours is not None:
            self._neighbours.close()
        if self._memory is not None:
            self._memory.close()
