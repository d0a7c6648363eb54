"""One trial of serving beside training: warm up, the other job alone, then both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from remora.core.clock import Clock, SystemClock
from remora.share.arrivals.contract import Arrivals
from remora.systems.beside.cores import pin
from remora.systems.beside.executor import Stage
from remora.systems.beside.job import BestEffort, Reading
from remora.systems.contract import Ride
from remora.workloads.contract import Outcome, Session

WARM_UP_STEPS = 5
_MIB = 2**20


class BesideRide(Ride):
    """Steps are requests: each waits for its arrival, or is late already.

    Args:
        job: the best-effort job beside it; None for none.
        arrivals: how requests come, ``per_second`` on average.
        alone_s: how long the best-effort job runs alone first.
        stage: where both share; it is closed with the ride.
        shared_cores: how many cores both share.
    """

    open_loop = True

    def __init__(
        self,
        session: Session,
        job: BestEffort | None,
        arrivals: Arrivals,
        per_second: float,
        *,
        alone_s: float,
        stage: Stage,
        shared_cores: int = 1,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(session)
        self._job, self._arrivals, self._per_second = job, arrivals, per_second
        self._alone_s, self._stage, self._shared_cores = alone_s, stage, shared_cores
        self._clock, self._sleep = clock or SystemClock(), sleep
        self._before = os.sched_getaffinity(0)
        self._began_ns = self._duration_ns = 0
        self._busy_ns: int | None = None
        self._readings = list[Reading]()
        self._counts = dict[str, float]()
        pin(stage.serving_cores)
        self._serve = stage.serve(session)

    # ---------------------------------------------------------------- requests

    def begin_requests(self, seconds: float, seed: int) -> None:
        self._warm_up()
        if self._job is not None:
            self._job.run_alone(self._alone_s)
        self._duration_ns = round(seconds * 1e9)
        self.came_ns = self._arrivals.draw(self._per_second, self._duration_ns, seed).tolist()
        self._mark()
        self._busy_ns = self._stage.busy_ns()
        self._began_ns = self._clock.wall_ns()

    def step(self) -> Outcome:
        return self._serve()

    def _warm_up(self) -> None:
        """The first request then is as quick as the rest; the session is put back afterwards."""
        before = self.session.state()
        for _ in range(WARM_UP_STEPS):
            self._serve()
        self.session.load_state(before)

    def wait(self) -> bool:
        now_ns, place = self._since_began_ns(), len(self.late_ns)
        if place < len(self.came_ns) and now_ns < self._duration_ns:
            now_ns = self._at(self.came_ns[place])
            self.late_ns.append(now_ns - self.came_ns[place])
            return True
        self.ended_ns = self._at(self._duration_ns)
        self._end()
        return False

    def _at(self, moment_ns: int) -> int:
        """Return at ``moment_ns``, or at once where it has passed; says when it is then."""
        while (left_ns := moment_ns - self._since_began_ns()) > 0:
            self._sleep(left_ns / 1e9)
        return self._since_began_ns()

    def _since_began_ns(self) -> int:
        return self._clock.wall_ns() - self._began_ns

    # ---------------------------------------------------------------- what it came to

    def _mark(self) -> None:
        if self._job is not None:
            self._readings.append(self._job.read())

    def _end(self) -> None:
        busy_ns = self._stage.busy_ns()
        self._counts["requests_unserved"] = len(self.came_ns) - len(self.late_ns)
        self._counts["requests_per_s_wanted"] = self._per_second
        if self._job is not None:
            self._job.check()
            self._mark()
            began, ended = self._readings
            self._counts |= _best_effort(began, ended, self._job)
        if busy_ns is not None and self._busy_ns is not None:
            worked_ns = [each.worked_ns for each in self._readings] or [0, 0]
            both_ns = busy_ns - self._busy_ns + worked_ns[1] - worked_ns[0]
            self._counts["cores_busy"] = both_ns / (self.ended_ns * self._shared_cores)

    def counts(self) -> Mapping[str, float]:
        return self._counts

    def close(self) -> None:
        if self._job is not None:
            self._job.close()
        self._stage.close()
        pin(self._before)


def _best_effort(began: Reading, ended: Reading, job: BestEffort) -> dict[str, float]:
    together = (ended.steps - began.steps) / (ended.at_ns - began.at_ns) * 1e9
    alone = began.steps / (began.at_ns - began.begun_ns) * 1e9
    return {
        "best_effort_steps_per_s_alone": alone,
        "best_effort_steps_per_s": together,
        "best_effort_normalised": together / alone,
        "best_effort_peak_rss_mib": job.peak_rss_bytes() / _MIB,
    }
