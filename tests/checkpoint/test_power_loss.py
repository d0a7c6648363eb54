"""Power lost, or the process killed, anywhere in a run: what was acknowledged is there."""

from __future__ import annotations

import pytest
from tests.checkpoint import runs
from tests.checkpoint.power_loss import Scenario, crash_twice, explore, kill_then_lose_power

from remora.checkpoint.folder import Folder

every_scenario = pytest.mark.parametrize("scenario", runs.ALL, ids=lambda each: each.__name__)

pytestmark = pytest.mark.usefixtures("small_ring")


@every_scenario
def test_power_loss_behind_every_change_and_every_tested_subset(scenario: Scenario) -> None:
    run = scenario(Folder)
    assert explore(run, sample=None) > 40 * run.now


@every_scenario
def test_power_loss_and_going_on_and_power_loss(scenario: Scenario) -> None:
    crash_twice(scenario, Folder, crashes=8, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@every_scenario
def test_power_loss_twice_at_length(scenario: Scenario) -> None:
    crash_twice(scenario, Folder, crashes=300, sample=5)


@pytest.mark.slow
@every_scenario
def test_killed_and_going_on_and_power_loss(scenario: Scenario) -> None:
    kill_then_lose_power(scenario, Folder, every=11, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@every_scenario
def test_killed_anywhere_and_going_on_and_power_loss(scenario: Scenario) -> None:
    kill_then_lose_power(scenario, Folder, every=1, sample=6)
