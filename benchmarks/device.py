"""A server as a device: a job that serves beside one that trains, under one policy after another.

Three processes: the server, which computes in one thread; a training that runs on it operator by
operator, as on a device of torch; and here the job that serves, whose requests come when they come.
Under every policy they come at the same moments.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

import remora
from benchmarks.page import table
from remora.remote.client.model import RemoteModel
from remora.share.arrivals.poisson import Poisson

POLICIES = ("fifo", "priority", "priority+min-wait:min-wait=1ms",
            "priority+slicing:min-wait=1ms,turnaround=1ms")  # fmt: skip
LOAD = 0.5
FOR_S = 16.0
SEED = 7
WARM_UP = 10
IN_FLIGHT = 256
"""Requests that may be under way: more than ever are, or it would be no open loop."""
BATCH, HIDDEN, LAYERS = 512, 1024, 3
"""Of the training: matrix products of some 10 ms each."""
PATIENCE_S = 120.0
"""How long a training may take to its first steps, on a machine that has other work too."""


class Network(torch.nn.Module):
    """Linear layers and what lies between."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        linear = [torch.nn.Linear(size, size) for _ in range(layers)]
        self.layers = torch.nn.Sequential(*(p for one in linear for p in (one, torch.nn.ReLU())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(x)
        return outputs


def section() -> str:
    """A table: responses of the serving job and what the training got, policy by policy."""
    alone = serving_alone(FOR_S)
    steps_alone = trained_alone(FOR_S / 2)
    rows = [_row(p, together(p, FOR_S, alone.latency_ms), alone, steps_alone) for p in POLICIES]
    return (
        f"Requests of {alone.latency_ms:.1f} ms at load {LOAD}, {len(alone.response_ms)} of them, "
        f"beside a training of {steps_alone:.1f} steps a second alone. Responses are from a "
        "request's arrival, services from when the device could turn to it; both over those of "
        "the serving job alone. *Best effort* is the training's steps over those that it does "
        "alone. One run each.\n\n"
        + table(["policy", "response p50", "p99", "service p99", "best effort"], rows)
    )


@dataclass(frozen=True)
class Served:
    """What became of the requests, in their order."""

    latency_ms: float
    """Of one, when nothing else is there."""
    response_ms: Sequence[float]
    service_ms: Sequence[float]
    steps_per_s: float = 0.0
    """Of the training meanwhile."""


def serving_alone(for_s: float, policy: str = "priority") -> Served:
    """The serving job with the device to itself."""
    with served(policy) as address:
        return _serve_requests(address, for_s)


def trained_alone(for_s: float, policy: str = "priority") -> float:
    """Steps a second of the training with the device to itself."""
    with served(policy) as address, training(address) as steps:
        began, before = time.perf_counter(), steps.value
        time.sleep(for_s)
        return float((steps.value - before) / (time.perf_counter() - began))


def together(policy: str, for_s: float, latency_ms: float) -> Served:
    """Both at once, with requests of ``latency_ms`` as they come to the serving job alone."""
    with served(policy) as address, training(address) as steps:
        return _serve_requests(address, for_s, latency_ms, steps)


def percentile(times_ms: Sequence[float], share: float) -> float:
    """The order statistic."""
    return float(np.quantile(np.array(times_ms), share, method="higher"))


def _row(policy: str, both: Served, alone: Served, steps_alone: float) -> list[str]:
    def times(share: float, which: str) -> str:
        ratio = percentile(getattr(both, which), share) / percentile(getattr(alone, which), share)
        return f"{ratio:.2f}"

    return [
        f"`{policy}`",
        times(0.5, "response_ms"),
        times(0.99, "response_ms"),
        times(0.99, "service_ms"),
        f"{both.steps_per_s / steps_alone:.2f}",
    ]


# ------------------------------------------------- the job that serves


def _serve_requests(
    address: str, for_s: float, latency_ms: float | None = None, steps: Any = None
) -> Served:
    with remora.connect(address, priority="high") as server:
        model, x = server.load(Network(512, 4).eval()), torch.ones(448, 512)
        measured_s = _latency_s(model, x)
        latency_s = measured_s if latency_ms is None else latency_ms / 1e3
        moments = Poisson().draw(LOAD / latency_s, round(for_s * 1e9), SEED) / 1e9
        before = steps.value if steps is not None else 0
        began = time.perf_counter()
        ended = _open_loop(model, x, moments.tolist())
        passed_s = time.perf_counter() - began
        done = steps.value - before if steps is not None else 0
    came = np.array(moments)
    free = np.maximum(came, np.concatenate([[0.0], ended[:-1]]))
    return Served(
        latency_s * 1e3, list((ended - came) * 1e3), list((ended - free) * 1e3), done / passed_s
    )


def _latency_s(model: RemoteModel, x: torch.Tensor) -> float:
    """Of one call, warmed up."""
    times = []
    for _ in range(4 * WARM_UP):
        began = time.perf_counter()
        model(x)
        times.append(time.perf_counter() - began)
    return median(times[WARM_UP:])


def _open_loop(model: RemoteModel, x: torch.Tensor, moments: Sequence[float]) -> Any:
    """When each request was answered, in seconds since the begin."""
    ended = np.zeros(len(moments))
    began = time.perf_counter()

    def ask(number: int) -> None:
        model(x)
        ended[number] = time.perf_counter() - began

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for number, moment in enumerate(moments):
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            pool.submit(ask, number)
    return ended


# ------------------------------------------------- the other processes


def _serve(policy: str, pipe: Any) -> None:
    from remora.remote.server.server import Server
    from remora.share.policies.registry import parse_choice

    torch.set_num_threads(1)
    with Server("tcp://127.0.0.1:0", policy=parse_choice(policy)) as server:
        pipe.send(server.address)
        pipe.recv()


def _train(address: str, steps: Any) -> None:
    torch.set_num_threads(1)
    with remora.connect(address, priority="best-effort") as server, server.device() as device:
        model = device.put(Network(HIDDEN, LAYERS))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        x = torch.ones(BATCH, HIDDEN).to(device)
        while True:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            loss.item()
            steps.value += 1


_SPAWN = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def served(policy: str) -> Iterator[str]:
    """The address of a server of that policy, in a process of its own."""
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(policy, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def training(address: str) -> Iterator[Any]:
    """A training there, which has begun; its steps so far are the value."""
    steps = _SPAWN.Value("q", 0)
    process = _SPAWN.Process(target=_train, args=(address, steps), daemon=True)
    process.start()
    try:
        until = time.monotonic() + PATIENCE_S
        while steps.value < WARM_UP and process.is_alive() and time.monotonic() < until:
            time.sleep(0.05)
        if steps.value < WARM_UP:
            raise RuntimeError(f"the training has done {steps.value} steps in {PATIENCE_S:g} s")
        yield steps
    finally:
        process.kill()
        process.join()
