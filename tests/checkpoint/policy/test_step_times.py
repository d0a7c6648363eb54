"""What a checkpoint costs, from steps whose truth is known."""

from __future__ import annotations

import random

import pytest

from remora.checkpoint.policy.step_times import CHECKPOINTS, StepTimes


def quiet_at(seconds: float, steps: int = 64) -> StepTimes:
    times = StepTimes()
    for _ in range(steps):
        times.add_quiet(seconds)
    return times


def test_cost_is_the_waits_and_what_busy_steps_take_longer() -> None:
    times = quiet_at(0.25)
    for _ in range(10):
        times.add_busy(0.25 + 0.04, stall_s=0.02)
        times.add_busy(0.25 + 0.01, stall_s=0.0)
        times.close()
    assert times.step_s() == pytest.approx(0.25)
    assert times.stall_s() == pytest.approx(0.02)
    # The two busy steps differ by 10 ms, and of 20 such steps the mean is known to ±1.1 ms.
    assert 0.05 - 2 * 2 * 0.0012 < times.cost_s() < 0.05


def test_a_step_held_up_by_something_else_counts_as_two() -> None:
    times = quiet_at(0.25)
    times.add_quiet(25.0)
    assert times.step_s() == pytest.approx(0.25 + 0.25 / 64)
    for n in range(20):
        times.add_busy(25.0 if n == 7 else 0.25, stall_s=0.0)
        times.close()
    # 1 s would be charged to each checkpoint if the 25 s were theirs.
    assert times.cost_s() < 0.02


def test_a_wait_is_kept_whole_however_long() -> None:
    times = quiet_at(0.25)
    times.add_busy(25.0, stall_s=24.75)
    times.close()
    assert times.cost_s() == pytest.approx(24.75)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_charged(seed: int) -> None:
    rng, times = random.Random(seed), StepTimes()
    for _ in range(64):
        times.add_quiet(rng.lognormvariate(0, 0.05))
    for _ in range(CHECKPOINTS):
        times.add_busy(rng.lognormvariate(0, 0.05), stall_s=0.0)
        times.close()
    assert times.cost_s() < 0.01


def test_old_checkpoints_are_forgotten() -> None:
    times = quiet_at(0.25)
    for stall_s in [1.0] * 10 + [0.0] * CHECKPOINTS:
        times.add_busy(0.25 + stall_s, stall_s)
        times.close()
    assert times.cost_s() == 0


def test_before_any_checkpoint_there_is_no_cost() -> None:
    assert quiet_at(0.25).cost_s() == 0
