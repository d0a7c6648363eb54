"""Riding a session whose model is in another process: what crosses to it, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil

from remora.systems.contract import Moved, Ride
from remora.workloads.contract import Outcome, Session


class Crossed(NamedTuple):
    """Bytes that this end's sockets have sent and received."""

    sent: int
    received: int


class ElsewhereRide(Ride):
    """Counts what crosses in steps apart from what putting the model there took.

    Args:
        crossed: what has crossed until now; None where nothing can tell.
        process: the one that holds the model, where it is known.
    """

    in_process = False

    def __init__(
        self,
        session: Session,
        crossed: Callable[[], Crossed | None],
        process: psutil.Process | None,
    ) -> None:
        super().__init__(session)
        self._crossed, self._process = crossed, process
        self._steps = 0
        self._cpu_first_s: float | None = None
        self._after: Crossed | None = None
        self.ready()

    def ready(self) -> None:
        """The model is there: what crosses from here on, and what it takes, is of steps."""
        self._before, self._cpu_before_s = self._crossed(), self._cpu_s()

    def step(self) -> Outcome:
        self._steps += 1
        self._after = None
        outcome = self.work()
        if self._steps == 1:
            self._cpu_first_s = self._cpu_s()
        return outcome

    def work(self) -> Outcome:
        """One step of the session's work."""
        return self.session.step()

    def moved(self) -> Moved:
        """What crossed since the model was there, each way, until this was first asked after a
        step: what a framework says beside the steps' own work is none of theirs."""
        self._after = self._after or self._crossed()
        now, before = self._after, self._before
        if now is None or before is None:
            return Moved(wire_bytes=None)
        sent, received = now.sent - before.sent, now.received - before.received
        return Moved(wire_bytes=sent + received, sent_bytes=sent, received_bytes=received)

    def counts(self) -> Mapping[str, float]:
        """Bytes it took to put the model there, and what steps take of the other process.

        Its CPU is that of the steps behind the first, in which it may plan, where there are more.
        """
        counts: dict[str, float] = {}
        if self._before is not None:
            counts["upload_sent_bytes"], counts["upload_received_bytes"] = self._before
        several = self._steps > 1
        now_s, since_s = self._cpu_s(), self._cpu_first_s if several else self._cpu_before_s
        if now_s is not None and since_s is not None and self._steps:
            counts["server_cpu_ms_per_step"] = (now_s - since_s) * 1e3 / (self._steps - several)
        resident = self._resident_bytes()
        if resident is not None:
            counts["server_rss_mib"] = resident / 2**20
        return counts

    def _cpu_s(self) -> float | None:
        with suppress(psutil.Error):
            if self._process is not None:
                times = self._process.cpu_times()
                return float(times.user + times.system)
        return None

    def _resident_bytes(self) -> int | None:
        with suppress(psutil.Error):
            if self._process is not None:
                return int(self._process.memory_info().rss)
        return None
