"""Real processes on a CPU: one trains behind the gate of one that serves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.share.gate.pair import PYTHON_HOOK, Pair
from tests.share.system.jobs import names, run, wait_until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.end()


def stands_still(pair: Pair, for_s: float = 0.3) -> bool:
    before = pair.steps
    time.sleep(for_s)
    return pair.steps == before


def test_it_stands_still_while_the_other_serves_and_goes_on_after(pair: Pair) -> None:
    pair.goes_on()
    for _ in range(3):
        pair.begin_request()
        wait_until(lambda: stands_still(pair))
        pair.end_request()
        pair.goes_on()
    found = json.loads(run(pair.folder, "share", "status", "--json").stdout)
    assert {each["mechanism"] for each in found["jobs"]} == {"none", "gate"}
    assert found["notes"] == []


def test_a_job_killed_while_it_serves_keeps_nobody(pair: Pair) -> None:
    pair.goes_on()
    pair.begin_request()
    wait_until(lambda: stands_still(pair))
    pair.high.kill()
    assert pair.goes_on() < 1.5
    pair.high.communicate()
    pair.end()
    run(pair.folder, "share", "status")
    assert names(pair.folder) == {"roster.lock"}


OTHERS = {
    "compiled": ("gate:policy=priority", ""),
    "sliced": ("gate:policy=priority+slicing,turnaround=1ms", ""),
    "paced": ("gate:policy=priority+min-wait,floor=1%", PYTHON_HOOK),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_so_it_is_by_other_policies_and_hooks(what: str, tmp_path: Path) -> None:
    mechanism, before = OTHERS[what]
    pair = Pair(tmp_path, mechanism, before)
    try:
        pair.goes_on()
        for _ in range(3):
            pair.begin_request()
            if what == "paced":
                pair.goes_on()
            else:
                wait_until(lambda: stands_still(pair))
            pair.end_request()
            pair.goes_on()
        assert pair.best_effort.poll() is None
    finally:
        pair.end()
