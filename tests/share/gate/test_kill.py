"""kill -9 at random points: the slot is free within a second, nobody waits for the dead."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.share.gate.pair import Pair
from tests.share.system.jobs import names, run, wait_until

from remora.share.gate.memory import Memory
from remora.share.system.roster import Roster

FORGOTTEN_S = 1.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.end()


def rounds(pair: Pair, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(count):
        who = draw.choice(["high", "best_effort"])
        if serves := draw.random() < 0.7:
            pair.begin_request()
        time.sleep(draw.uniform(0, 0.2))
        getattr(pair, who).kill()
        getattr(pair, who).communicate()
        if who == "high":
            assert pair.goes_on() < FORGOTTEN_S
            wait_until(lambda: not _owners(pair), FORGOTTEN_S)
            pair.serve()
            pair.goes_on()
        else:
            if serves:
                pair.end_request()  # the job that serves is none the wiser
            pair.train()
            pair.goes_on()
            pair.begin_request()
            pair.end_request()
            pair.goes_on()
        assert _owners(pair) == 1


def _owners(pair: Pair) -> int:
    memory = Memory(Roster(pair.folder / "remora"), "cpu")
    found = memory.owners()
    memory.let_go()
    return sum(owner is not None for owner in found)


def nothing_is_left(pair: Pair) -> None:
    pair.end()
    run(pair.folder, "share", "status")
    assert names(pair.folder) == {"roster.lock"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_kills_freeze_nobody_and_leave_nothing(pair: Pair) -> None:
    rounds(pair, 30, seed=0)
    nothing_is_left(pair)


def test_both_killed_leave_nothing(pair: Pair) -> None:
    pair.begin_request()
    nothing_is_left(pair)
