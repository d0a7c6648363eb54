"""A high-priority job at the gate: takes a slot, and counts requests while somebody waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from remora.core.errors import RosterUnusable
from remora.share.gate.cuda import CudaDriver
from remora.share.gate.device import cuda_in_use, has_nvidia
from remora.share.gate.driver import CpuDriver, Driver
from remora.share.gate.memory import SLOTS, Memory, Slot
from remora.share.gate.serving import Serving
from remora.share.gate.watching import Watchers
from remora.share.system.roster import Roster

if TYPE_CHECKING:
    from remora.tap.job import Job
    from remora.tap.subscription import Subscription

_PATIENCE_S = 1.0
"""How long to wait at the end for what the device has been given to do."""


class HighPriority:
    """One job, which has its place in the roster.

    Where there is an NVIDIA device, it takes its slot at its first forward behind which CUDA has
    memory of it, for only then it is known which device it is; elsewhere at once.

    Args:
        say: is told once where the job has no slot, and why; it goes on.
    """

    def __init__(
        self,
        roster: Roster,
        key: str,
        job: Job,
        say: Callable[[str], object],
        *,
        waits_for_cuda: bool | None = None,
    ) -> None:
        self._roster, self._key, self._job, self._say = roster, key, job, say
        self._memory: Memory | None = None
        self._slot: Slot | None = None
        self._serving: Serving | None = None
        self._watchers: Watchers | None = None
        self._subscription: Subscription | None = None
        if has_nvidia() if waits_for_cuda is None else waits_for_cuda:
            self._subscription = job.steps.subscribe_forward(self._find_device)
        else:
            self._come(CpuDriver())

    @property
    def slot(self) -> Slot | None:
        """The job's own; None where it has none, or none yet."""
        return self._slot

    def close(self) -> None:
        """Give up the slot. Calling it twice does no harm."""
        if self._watchers is not None:
            self._watchers.close()
        self._unhook()
        memory, self._memory = self._memory, None
        slot, self._slot = self._slot, None
        if memory is None or slot is None:
            return
        until_s = time.monotonic() + _PATIENCE_S
        while slot.is_shut and time.monotonic() < until_s:
            time.sleep(0.001)
        if not slot.is_shut:  # else it is freed as that of a dead job: the device may still write
            memory.give_back(slot)
        memory.close()

    # ---------------------------------------------------------------- coming

    def _find_device(self, _: object) -> None:
        if (index := cuda_in_use()) is not None:
            if self._subscription is not None:
                self._subscription.remove()
                self._subscription = None
            self._come(CudaDriver(index))

    def _come(self, driver: Driver) -> None:
        try:
            self._memory = Memory(self._roster, driver.device)
            self._slot = self._memory.take(self._key)
        except RosterUnusable as error:
            self._say(f"gate: {error}; the job goes on, and nobody gives way to it there")
            return
        if self._slot is None:
            self._say(
                f"gate: {SLOTS} high-priority jobs are at this device already; this one goes on, "
                "and nobody gives way to it there until it is started anew beside fewer"
            )
            return
        self._serving = Serving(self._slot, driver)
        try:
            self._watchers = Watchers(self._key, self._hook, self._unhook)
        except OSError as error:
            self._say(f"gate: no socket to be seen by: {error.strerror}; nobody gives way there")

    def _hook(self) -> None:
        if self._serving is not None:
            serving = self._serving
            self._subscription = self._job.steps.subscribe_forward(serving.ends, serving.begins)

    def _unhook(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.remove()
        if self._serving is not None:
            self._serving.end()
