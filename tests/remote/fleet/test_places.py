"""What every place does with a fleet's servers: start them, start them again, end them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil
import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.fleet.conftest import within

from remora.core.errors import Unavailable
from remora.remote.client.placed import Placed
from remora.remote.client.server import connect
from remora.remote.client.session import RemoteSession
from remora.remote.fleet.fleet import Fleet
from remora.remote.fleet.messages import Standing
from remora.remote.fleet.on_ray import RayActors
from remora.remote.fleet.places import Place
from remora.remote.fleet.probe import Health
from remora.remote.fleet.processes import Processes
from remora.remote.fleet.ring import order
from remora.remote.fleet.running import Plan, RunningFleet
from remora.remote.fleet.spec import Spec

PLACES = ["processes", pytest.param("ray", marks=pytest.mark.slow)]
NAMES = ["server-0", "server-1"]


def place_of(kind: str) -> Callable[[Sequence[Spec]], Place]:
    return Processes if kind == "processes" else partial(RayActors, cluster="local", cpus=0.5)


@contextmanager
def running(kind: str, **plan: Any) -> Iterator[RunningFleet]:
    plan = {
        "devices": ["cpu"] * 2,
        "listen": "tcp://127.0.0.1:0",
        "threads": 1,
        "health": Health(0.2, 1.0),
        **plan,
    }
    with RunningFleet(Plan(**plan), place_of(kind)) as fleet:
        yield fleet


@pytest.fixture(scope="module", params=PLACES)
def there(request: pytest.FixtureRequest) -> Iterator[RunningFleet]:
    with running(request.param) as fleet:
        fleet.wait(60)
        yield fleet
        processes = [psutil.Process(standing(fleet, name).pid) for name in NAMES]
        processes[0].suspend()  # all end together, also one that hangs
        fleet.close()
        assert within(10, lambda: not any(_lives(process) for process in processes))


def standing(there: RunningFleet, name: str) -> Standing:
    (found,) = (s for s in there.directory.members.standings if s.name == name)
    return found


def all_serve(there: RunningFleet) -> None:
    assert there.directory.members.wait_for(2, 60)


def session(fleet: Any, decoder: Placed, key: str) -> RemoteSession:
    assert isinstance(fleet, Fleet)
    placed = Placed(decoder.captured, decoder=True)
    return RemoteSession(fleet.for_key(key), placed, deadline_s=None)


def test_every_server_is_a_process_of_its_own(there: RunningFleet) -> None:
    pids = {standing(there, name).pid for name in NAMES}

    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    "sent", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_tokens_go_on_elsewhere_when_a_server_is_killed_or_hangs(
    there: RunningFleet, decoder: Placed, language_model: torch.nn.Module, sent: signal.Signals
) -> None:
    all_serve(there)
    owner = order("it", NAMES)[0]
    pid, starts, taken = standing(there, owner).pid, standing(there, owner).starts, list[int]()
    sent_s = moved_s = 0.0
    with connect(there.address) as fleet, session(fleet, decoder, "it") as one:
        one.prefill(prompt(5))
        for token in one.generate(200):
            taken.append(token)
            if len(taken) == 3:
                os.kill(pid, sent)
                sent_s = time.monotonic()
            if one.recoveries and not moved_s:
                moved_s = time.monotonic()
        assert moved_s - sent_s < 18, "sooner than a connection's silence is noticed: 20 s"
        if sent is signal.SIGSTOP:
            assert standing(there, owner).state == "silent"
            os.kill(pid, signal.SIGCONT)
        all_serve(there)

    assert taken == decoded_here(language_model, prompt(5), 200)
    assert standing(there, owner).starts == starts + (sent is signal.SIGKILL)
    assert (standing(there, owner).pid == pid) is (sent is signal.SIGSTOP)
    assert within(10, lambda: all(standing(there, n).counts["sessions"] == 0 for n in NAMES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_a_server_that_does_not_come_is_named_and_so_is_why(kind: str) -> None:
    with running(kind, devices=["cpu", "cuda:99"]) as there:
        with pytest.raises(Unavailable, match="within 0 s: server-0 is absent, server-1 is"):
            there.wait(0)
        with pytest.raises(Unavailable, match=r"server-1 cannot serve: .*no device 'cuda:99' here"):
            there.wait(60)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
