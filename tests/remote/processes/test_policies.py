"""A server as a device, and jobs on it as processes: what one does to the other, and its death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.remote.processes.conftest import Serve, within

import remora
from benchmarks import device
from remora.remote.messages import ClientCounts

pytestmark = pytest.mark.slow  # each starts processes that import torch

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def there(serve: Callable[..., Serve]) -> Serve:
    return serve("--threads", "1", "--policy", "priority+min-wait", "--high", "1")


@pytest.fixture
def train() -> Iterator[Callable[[str], tuple[Any, Any]]]:
    """Starts trainings; gives the process and its steps."""
    started = []

    def start(address: str) -> tuple[Any, Any]:
        steps = SPAWN.Value("q", 0)
        process = SPAWN.Process(target=device._train, args=(address, steps), daemon=True)
        process.start()
        started.append(process)
        assert within(90, lambda: steps.value > 2)
        return process, steps

    yield start
    for process in started:
        process.kill()
        process.join()


def _call_for_ever(address: str, calls: Any) -> None:
    torch.set_num_threads(1)
    with remora.connect(address, priority="high") as server:
        model = server.load(device.Network(512, 4).eval())
        while True:
            model(torch.ones(448, 512))
            calls.value += 1


def counted(there: Serve) -> dict[str, ClientCounts]:
    """The latest client of each class."""
    with remora.connect(there.address) as server:
        return {each.priority: each for each in sorted(server.clients(), key=_number)}


def _number(counts: ClientCounts) -> int:
    return counts.number


@pytest.mark.parametrize("after_s", [0.0, 0.017, 0.23])
def test_a_killed_training_frees_its_slot_and_its_memory(
    there: Serve, train: Callable[[str], tuple[Any, Any]], after_s: float
) -> None:
    process, _ = train(there.address)
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    assert within(5, lambda: counted(there)["best-effort"].left)
    with remora.connect(there.address, priority="high") as server:
        assert within(5, lambda: server.counts()["waiting"] == 0)
        assert within(5, lambda: server.counts()["tensors"] == 0)
        model = server.load(torch.nn.Linear(4, 4))
        assert model(torch.ones(1, 4)).shape == (1, 4)


@pytest.mark.parametrize("after_s", [0.0, 0.011, 0.13])
def test_a_killed_serving_leaves_the_device_to_the_training(
    there: Serve, train: Callable[[str], tuple[Any, Any]], after_s: float
) -> None:
    calls = SPAWN.Value("q", 0)
    serving = SPAWN.Process(target=_call_for_ever, args=(there.address, calls), daemon=True)
    serving.start()
    assert within(90, lambda: calls.value > 5)
    _, steps = train(there.address)
    time.sleep(after_s)
    os.kill(serving.pid or 0, signal.SIGKILL)
    serving.join()
    assert within(5, lambda: counted(there)["high"].left)
    before = steps.value
    assert within(30, lambda: steps.value > before + 2)
    with remora.connect(there.address, priority="high"):  # the only place for one is free
        pass


def test_a_request_waits_for_one_operator_under_priority_and_for_many_under_fifo() -> None:
    latency_ms = 40.0  # of a request at load 0.5: the same arrivals for both
    fifo = device.together("fifo", 4, latency_ms)
    priority = device.together("priority+min-wait:min-wait=1ms", 4, latency_ms)
    assert len(fifo.response_ms) == len(priority.response_ms)
    shares = [device.percentile(each.response_ms, 0.5) for each in (fifo, priority)]
    assert shares[0] > 1.5 * shares[1]
