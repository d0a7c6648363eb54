"""What a trial comes down to when its first period alone is its warm-up."""

from __future__ import annotations

import msgspec
import pytest
from tests.lab.builders import make_spec, make_trial

from remora.lab.results import Arm, Trial
from remora.lab.summary import Measured

MS = 1_000_000


def _measured(period: int, steps: list[float], drain_ms: float, stalls: list[int]) -> Measured:
    spec = make_spec(Arm(workload="w", system="s", label="s", role="system"))
    made = make_trial(spec)
    assert made.samples is not None
    assert made.costs is not None
    samples = msgspec.structs.replace(
        made.samples,
        step_ns=[round(ms * MS) for ms in steps],
        step_cpu_ns=[MS] * len(steps),
        stall_ns=stalls,
        durable_ns=[10 * each for each in stalls],
    )
    costs = msgspec.structs.replace(made.costs, drain_ns=round(drain_ms * MS))
    trial: Trial = msgspec.structs.replace(made, period=period, samples=samples, costs=costs)
    found = Measured.of(trial, "first period")
    assert found is not None
    return found


def test_time_runs_from_the_first_checkpoint_until_the_last_is_durable() -> None:
    measured = _measured(3, [999, 999, 999, 10, 10, 40, 10, 10, 40], 60, [7, 3, 5])
    assert measured.settled_from == 3
    assert measured.mean_step_ns == pytest.approx((120 + 60) / 6 * MS)
    assert measured.throughput == pytest.approx(8 / 0.030)


def test_the_first_checkpoint_is_warm_up_and_still_counts_as_made() -> None:
    measured = _measured(3, [1.0] * 9, 0, [7, 3, 5])
    assert measured.stall_ns == [3, 5]
    assert measured.durable_ns == [30, 50]
    assert (measured.calls, measured.calls_due) == (3, 3)


def test_a_skipped_checkpoint_shows_as_due_and_not_made() -> None:
    measured = _measured(2, [1.0] * 10, 0, [7, 3, 5])
    assert (measured.calls, measured.calls_due) == (3, 5)


def test_a_trial_of_one_period_counts_whole() -> None:
    measured = _measured(3, [5, 5, 8], 3, [3])
    assert measured.mean_step_ns == pytest.approx(7 * MS)
    assert measured.stall_ns == [3]
