"""A ride in an open loop: requests come when they come, the best-effort job runs beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.systems.builders import TinyInference

from remora.core.clock import ManualClock
from remora.core.errors import Unavailable
from remora.share.arrivals.contract import Arrivals
from remora.share.arrivals.poisson import Poisson
from remora.systems.beside.executor import Stage, Step
from remora.systems.beside.job import Reading
from remora.systems.beside.ride import WARM_UP_STEPS, BesideRide
from remora.workloads.contract import Outcome, Session

MS = 1_000_000
CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class At(Arrivals):
    """Requests at moments that a test names, in milliseconds."""

    name = "at"
    moments_ms: tuple[float, ...] = ()

    def _draw(
        self, per_second: float, duration_s: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        return np.array(self.moments_ms) / 1e3


@dataclass
class Scripted:
    """A best-effort job that makes a step each millisecond alone, and as many as it is told beside
    requests."""

    clock: ManualClock
    steps_together: float
    log: list[str] = field(default_factory=list)
    is_dead: bool = False

    def run_alone(self, seconds: float) -> None:
        self.log.append(f"alone for {seconds:g} s")
        self.began_ns = self.clock.wall_ns()
        self.clock.advance(round(seconds * 1e9))

    def read(self) -> Reading:
        self.log.append("read")
        steps = 1000.0 if self.log.count("read") == 1 else 1000.0 + self.steps_together
        return Reading(self.began_ns, self.clock.wall_ns(), steps, 0)

    def check(self) -> None:
        if self.is_dead:
            raise Unavailable("the best-effort job ended")

    def peak_rss_bytes(self) -> int:
        return 3 * 2**20

    def close(self) -> None:
        self.log.append("closed")


class Serving(TinyInference):
    """Each step takes ten milliseconds of the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock, self.steps = clock, 0

    def step(self) -> Outcome:
        self.steps += 1
        self.clock.advance(10 * MS)
        return super().step()


class Alone(Stage):
    """Nothing is shared; it says when it is closed."""

    meeting = ""
    serving_cores = training_cores = CORES[-1:]

    def serve(self, session: Session) -> Step:
        return session.step

    def busy_ns(self) -> int:
        return 0

    def worked(self, pid: int) -> Callable[[], int]:
        return lambda: 0

    def close(self) -> None:
        pass


def ride(
    clock: ManualClock, moments_ms: Sequence[float], job: Scripted | None = None
) -> BesideRide:
    return BesideRide(
        Serving(clock),
        job,
        At(tuple(moments_ms)),
        10.0,
        alone_s=1.0,
        stage=Alone(),
        clock=clock,
        sleep=lambda seconds: clock.advance(round(seconds * 1e9)),
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(5)


def served(one: BesideRide, seconds: float = 1.0) -> BesideRide:
    """Served to the end."""
    try:
        one.begin_requests(seconds, 0)
        while one.wait():
            one.step()
    finally:
        one.close()
    return one


def test_a_request_waits_for_its_arrival_and_a_busy_server_is_late(clock: ManualClock) -> None:
    one = served(ride(clock, [100, 104, 300]))
    assert one.came_ns == [100 * MS, 104 * MS, 300 * MS]
    assert one.late_ns == [0, 6 * MS, 0]
    assert one.ended_ns == 1000 * MS


def test_requests_that_nobody_turned_to_are_counted(clock: ManualClock) -> None:
    one = served(ride(clock, [80, 81, 82, 83, 84]), seconds=0.1)
    assert (len(one.came_ns), len(one.late_ns)) == (5, 2)
    assert one.counts()["requests_unserved"] == 3
    assert one.ended_ns == 100 * MS


def test_the_best_effort_job_runs_alone_first_and_is_a_share_of_that(clock: ManualClock) -> None:
    job = Scripted(clock, steps_together=480.0)
    one = served(ride(clock, [100, 500], job))
    assert job.log == ["alone for 1 s", "read", "read", "closed"]
    assert one.counts()["best_effort_steps_per_s_alone"] == pytest.approx(1000)
    assert one.counts()["best_effort_normalised"] == pytest.approx(0.48)
    assert one.counts()["best_effort_peak_rss_mib"] == 3


def test_a_best_effort_job_that_died_fails_the_trial(clock: ManualClock) -> None:
    job = Scripted(clock, 1.0, is_dead=True)
    with pytest.raises(Unavailable, match="ended"):
        served(ride(clock, [100], job))


def test_warming_up_leaves_the_sessions_work_as_it_was(clock: ManualClock) -> None:
    one = ride(clock, [])
    before = one.session.state()["model"]
    one.begin_requests(1.0, 0)
    session = one.session
    assert isinstance(session, Serving)
    assert session.steps == WARM_UP_STEPS
    after = one.session.state()["model"]
    assert all(bool((before[name] == after[name]).all()) for name in before)
    one.close()


def test_the_same_seed_brings_the_same_requests_whatever_is_beside(clock: ManualClock) -> None:
    came = []
    for job in (None, Scripted(clock, 1.0)):
        one = ride(clock, [], job)
        one._arrivals = Poisson()
        one.begin_requests(5.0, 3)
        came.append(one.came_ns)
        one.close()
    assert came[0] == came[1]
    assert len(came[0]) > 20


@pytest.mark.skipif(len(CORES) < 2, reason="one core: there is nothing to pin to")
def test_it_runs_on_its_cores_and_later_on_all(clock: ManualClock) -> None:
    one = ride(clock, [])
    assert os.sched_getaffinity(0) == {CORES[-1]}
    one.close()
    assert os.sched_getaffinity(0) == set(CORES)
