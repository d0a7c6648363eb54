"""Power lost, or the process killed, anywhere in a run: what was acknowledged is there."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.checkpoint.power_loss import OpenFolder, Recovery, Run, explore, inherited, states
from tests.checkpoint.saving import CHUNK

from remora.checkpoint import commit
from remora.checkpoint.folder import Folder
from remora.checkpoint.storage.memory import MemoryStorage

RING = 4
"""So few records that the ring is gone round in every run."""


@pytest.fixture(autouse=True)
def small_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "RING_RECORDS", RING)


# ---------------------------------------------------------------- what runs do


def one_by_one(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder)
    for step in range(1, 7):
        assert run.save(step)
    return run


def out_of_order(open_folder: OpenFolder) -> Run:
    """Two in flight, their chunks interleaved; later ones finish first, one of them too late."""
    run = Run(MemoryStorage(), open_folder)
    for step in (1, 3, 5):
        older, newer = run.begin(step), run.begin(step + 1)
        for index in range(older.layout.chunks):
            newer.write(index)
            older.write(index)
        assert run.commit(newer)
        if step < 5:
            assert run.commit(older)
    assert run.save(7)
    assert not run.commit(older)
    assert run.save(8)
    return run


def given_up_midway(open_folder: OpenFolder) -> Run:
    """A save that comes to nothing between others."""
    run = Run(MemoryStorage(), open_folder)
    run.save(1)
    unlucky = run.begin(2)
    unlucky.write(0)
    run.save(3)
    run.folder.give_back(unlucky.place)
    run.save(4)
    run.save(5)
    return run


def archiving(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder, keep_every=2)
    for step in range(1, 8):
        run.save(step)
    return run


def archiving_a_step_again(open_folder: OpenFolder) -> Run:
    """Resumed from before a step that is archived already: it is saved and archived anew."""
    run = Run(MemoryStorage(), open_folder, keep_every=2)
    for step in (1, 2, 3, 4, 1, 2, 3, 4, 5, 6):
        run.save(step)
    return run


def dropping(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder, keep=3)
    for step in (1, 2, 3):
        run.save(step)
    run.drop(run.folder.live[0])
    run.save(4)
    run.drop(run.folder.live[-1])
    run.save(5)
    run.save(6)
    return run


def growing(open_folder: OpenFolder) -> Run:
    """The state outgrows the slots."""
    run = Run(MemoryStorage(), open_folder)
    for step in (1, 2, 3):
        run.save(step)
    run.resize(9 * CHUNK)
    for step in (4, 5, 6, 7):
        run.save(step, 2)
    return run


def reopened(open_folder: OpenFolder) -> Run:
    """Closed and opened again, to keep fewer."""
    run = Run(MemoryStorage(), open_folder, keep=4)
    for step in range(1, 6):
        run.save(step)
    run.folder.close()
    again = Run(run.storage, open_folder, promises=run.promises, keep=2, keep_every=2)
    for step in range(6, 10):
        again.save(step)
    return again


Scenario = Callable[[OpenFolder], Run]
SCENARIOS: list[Scenario] = [
    one_by_one,
    out_of_order,
    given_up_midway,
    archiving,
    archiving_a_step_again,
    dropping,
    growing,
    reopened,
]
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)


# ---------------------------------------------------------------- one crash


@every_scenario
def test_power_loss_behind_every_change(scenario: Scenario) -> None:
    run = scenario(Folder)
    assert explore(run, sample=6) > 5 * run.now


@pytest.mark.slow
@pytest.mark.timeout(3600)
@every_scenario
def test_power_loss_behind_every_change_and_every_tested_subset(scenario: Scenario) -> None:
    assert explore(scenario(Folder), sample=None) > 10_000


# ---------------------------------------------------------------- and another


def go_on(run: Run, open_folder: OpenFolder, storage: MemoryStorage, at: int) -> Run:
    """Open what was found, and save twice more."""
    recovery = Recovery(run.promises.scales)
    found = recovery.check(storage, run.promises, at)
    promises = inherited(found, commit.CommitLog(storage).newest.entries, run.promises)
    again = Run(storage, open_folder, promises=promises, keep_every=run.keep_every, size=run.size)
    again.save(100)
    again.save(102)
    return again


def crash_twice(scenario: Scenario, open_folder: OpenFolder, crashes: int, sample: int) -> None:
    run = scenario(open_folder)
    draw = random.Random(1)
    for _ in range(crashes):
        at = draw.randrange(run.now + 1)
        found = draw.choice(list(states(run.storage, at, draw, 20)))
        explore(go_on(run, open_folder, found, at), sample=sample, seed=at)


@every_scenario
def test_power_loss_and_going_on_and_power_loss(scenario: Scenario) -> None:
    crash_twice(scenario, Folder, crashes=8, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@every_scenario
def test_power_loss_twice_at_length(scenario: Scenario) -> None:
    crash_twice(scenario, Folder, crashes=300, sample=5)


def kill_then_lose_power(
    scenario: Scenario, open_folder: OpenFolder, every: int, sample: int | None
) -> None:
    """What was not synced when the process died is visible to the next; then it is lost."""
    run = scenario(open_folder)
    for at in range(run.now % every, run.now + 1, every):
        storage = run.storage.after_kill(at)
        promises = run.promises.by(at)
        again = Run(
            storage, open_folder, promises=promises, keep_every=run.keep_every, size=run.size
        )
        again.save(100)
        again.save(102)
        explore(again, sample=sample, since=at, seed=at)


@every_scenario
def test_killed_and_going_on_and_power_loss(scenario: Scenario) -> None:
    kill_then_lose_power(scenario, Folder, every=11, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@every_scenario
def test_killed_anywhere_and_going_on_and_power_loss(scenario: Scenario) -> None:
    kill_then_lose_power(scenario, Folder, every=1, sample=6)
