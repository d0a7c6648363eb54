"""The replay against a job simulated step by step, and against arithmetic done by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.goodput import Pace, Replayed, exponential_failures, replay
from remora.core.errors import BadValue


@dataclass
class Simulated:
    """One life of a job, step by step, in whole seconds: the slow and obvious way."""

    pace: Pace
    steps: int = 0
    durable: int = 0
    writing: list[tuple[float, int]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        pace = self.pace
        while (now := (self.steps + 1) * pace.step_s) <= seconds:
            self.steps += 1
            self._land(now)
            if self.steps % pace.every == 0 and len(self.writing) < pace.in_flight:
                self.writing.append((now + pace.latency_s, self.steps))
        self._land(seconds)

    def _land(self, now: float) -> None:
        for moment, step in list(self.writing):
            if moment <= now:
                self.writing.remove((moment, step))
                self.durable = max(self.durable, step)


def simulate(failures: Sequence[float], duration_s: float, pace: Pace) -> Replayed:
    up_at, down_since, kept, lost, down, restarts = pace.first_down_s, 0.0, 0, 0, 0.0, 0
    for moment in [at for at in failures if at < duration_s]:
        life = Simulated(pace)
        life.run(max(0.0, moment - up_at))
        down += min(up_at, moment) - down_since
        kept += life.durable
        lost += life.steps - life.durable
        restarts += 1
        down_since, up_at = moment, moment + pace.down_s
    last = Simulated(pace)
    last.run(max(0.0, duration_s - up_at))
    return Replayed(
        duration_s=duration_s,
        steps=kept + last.steps,
        lost_steps=lost,
        restarts=restarts,
        down_s=down + min(up_at, duration_s) - down_since,
    )


# Whole seconds: every sum and quotient is exact, so that nothing hangs on a rounding.
seconds = st.integers(0, 60).map(float)
paces = st.builds(
    Pace,
    step_s=st.integers(1, 8).map(float),
    every=st.integers(1, 12),
    latency_s=st.integers(0, 120).map(float),
    in_flight=st.integers(1, 5),
    down_s=seconds,
    first_down_s=seconds,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1500).map(float), max_size=8).map(sorted), paces)
def test_it_is_what_a_simulation_step_by_step_gives(failures: list[float], pace: Pace) -> None:
    assert replay(failures, 1200.0, pace) == simulate(failures, 1200.0, pace)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), max_size=20).map(sorted), paces)
def test_no_work_appears_from_nowhere(failures: list[float], pace: Pace) -> None:
    found = replay(failures, 1e4, pace)
    ran_s = (found.steps + found.lost_steps) * pace.step_s
    # Beside them there are only the down times and a step broken off at every failure.
    assert ran_s + found.down_s <= 1e4 + 1e-6
    assert ran_s + found.down_s >= 1e4 - (found.restarts + 1) * pace.step_s - 1e-6
    assert found.steps >= 0
    assert found.lost_steps >= 0


PACE = Pace(step_s=1.0, every=10, latency_s=3.0, in_flight=2, down_s=5.0)


@pytest.mark.parametrize(
    ("moment", "lost"),
    [(9.5, 9), (12.5, 12), (13.0, 3), (22.9, 12), (23.0, 3), (24.0, 4)],
    ids=str,
)
def test_what_one_failure_undoes(moment: float, lost: int) -> None:
    found = replay([moment], 1000.0, PACE)
    assert found.lost_steps == lost
    assert found.steps == int(moment) - lost + int(1000 - moment - 5)
    assert found.down_s == 5.0


def test_nothing_fails_nothing_is_lost() -> None:
    assert replay([], 100.0, PACE) == Replayed(
        duration_s=100.0, steps=100, lost_steps=0, restarts=0, down_s=0.0
    )
    assert replay([], 3600.0, PACE).steps_per_hour == 3600


def test_a_failure_while_down_starts_the_restart_anew() -> None:
    # GIVEN a failure at 50, and another 3 s into the restart of 5 s
    found = replay([50.0, 53.0], 100.0, PACE)
    # THEN 40 steps are kept, 10 lost, and after 8 s down 42 more are done
    assert (found.steps, found.lost_steps, found.down_s) == (40 + 42, 10, 8.0)


def test_several_failures_at_one_moment_are_one() -> None:
    assert replay([50.0] * 5, 100.0, PACE).steps == replay([50.0], 100.0, PACE).steps


def test_more_often_than_storage_takes_them_some_are_skipped() -> None:
    # GIVEN a checkpoint due every second that takes 10 s, two at a time
    pace = Pace(step_s=1.0, every=1, latency_s=10.0, in_flight=2, down_s=0.0)
    # THEN steps 1 and 2 are taken, then 11 and 12; at 20.5 s only step 2 is durable
    assert [pace.durable_step(at) for at in (10.9, 11.0, 12.0, 20.5, 21.0, 22.0)] == [
        0, 1, 2, 2, 11, 12
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("every", "latency_s"), [(10, 0.0), (10, 4.0), (4, 11.0)], ids=["none", "short", "long"]
)
def test_on_average_half_the_interval_and_the_whole_latency_are_lost(
    every: int, latency_s: float
) -> None:
    pace = Pace(step_s=0.01, every=every * 100, latency_s=latency_s, in_flight=8, down_s=0.0)
    failures = exponential_failures(5, mtbf_s=500.0, duration_s=2e6)
    found = replay(failures, 2e6, pace)
    lost_s = found.lost_steps * pace.step_s / found.restarts
    # A little less: a job that fails before its first checkpoint is durable loses only what it did.
    assert lost_s == pytest.approx(every / 2 + latency_s, rel=0.05)


def test_failures_out_of_order_are_refused() -> None:
    with pytest.raises(BadValue, match="sort them"):
        replay([5.0, 4.0], 10.0, PACE)
    with pytest.raises(BadValue, match="sort them"):
        replay([-1.0], 10.0, PACE)
