"""The gate on a device: rows of ``make gpu-check``.

``python -m benchmarks.gpu_gate serve cuda:0 standard`` is one of the jobs; it does as it reads.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import gpu_row
from remora.share.gate.cuda import CudaDriver
from remora.share.gate.driver import CpuDriver, Driver
from remora.share.gate.in_flight import InFlight
from remora.share.gate.memory import Memory
from remora.share.gate.serving import Serving
from remora.share.policies.contract import Priority
from remora.share.system.roster import Entry, Roster, new_key
from remora.share.system.runtime_folder import runtime_folder

BUDGET_S = 60.0
"""Of the row with processes: it is killed behind that."""
SECONDS = {"standard": 6.0, "quick": 1.0}
"""For which each is measured."""
LOAD = 0.5
BOUND_NS = 1_000_000
GATED = ("--priority", "best-effort", "--share-mechanism", "gate:in-flight=1ms")


class Wrong(RuntimeError):
    """The gate did not do on the device what it does on the CPU."""


# ---------------------------------------------------------------- one process


def slot(device: str) -> str:
    """Who opens the gate behind the device's work, what a request costs, and what is in flight."""
    torch.ones(1, device=device)
    with _folder() as in_memory:
        told = [
            f"the runtime folder: {_requests(_driver(device), runtime_folder())}",
            f"a folder in memory: {_requests(_driver(device), Path(in_memory))}",
        ]
    return "; ".join([*told, *([] if device == "cpu" else [_in_flight(_driver(device), device)])])


def _driver(device: str) -> Driver:
    return CpuDriver() if device == "cpu" else CudaDriver(torch.device(device).index or 0)


def _folder() -> tempfile.TemporaryDirectory[str]:
    """In memory where there is such a place."""
    shared = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=shared if Path(shared).is_dir() else None)


def _requests(driver: Driver, folder: Path, count: int = 2000) -> str:
    roster = Roster(folder)
    key = new_key()
    place = roster.join(Entry(key, os.getpid(), "gpu-check", Priority.HIGH, time.time()))
    memory = Memory(roster, f"check-{driver.device}")
    slot = memory.take(key)
    if slot is None:
        raise Wrong("no slot where nobody else is")
    serving, took_ns = Serving(slot, driver), list[int]()
    for _ in range(count):
        began = time.perf_counter_ns()
        serving.begins()
        serving.ends()
        took_ns.append(time.perf_counter_ns() - began)
    until_s = time.monotonic() + 5
    while slot.is_shut:
        if time.monotonic() > until_s:
            raise Wrong("the gate stayed shut behind work that is done")
    memory.give_back(slot)
    memory.close()
    place.leave()
    who = getattr(driver, "writes_by", "CPU")
    return f"written by {who}, a request costs {statistics.median(took_ns) / 1e3:.1f} µs"


def _in_flight(driver: Driver, device: str) -> str:
    """How long what a saturated program has issued keeps a device that has a bound."""
    cap, x, left_ms = InFlight(driver, BOUND_NS), torch.randn(2048, 2048, device=device), []
    for number in range(3000):
        cap.make_room()
        _ = x @ x
        cap.issue()
        if number > 1000 and number % 50 == 0:
            mark, began = driver.mark(), time.perf_counter()
            mark.wait()
            left_ms.append((time.perf_counter() - began) * 1e3)
    left_ms.sort()
    if left_ms[len(left_ms) // 2] > 3 * BOUND_NS / 1e6:
        raise Wrong(f"{left_ms[len(left_ms) // 2]:.2f} ms were in flight where 1 may be")
    return f"in flight {left_ms[len(left_ms) // 2]:.2f} ms, at most {left_ms[-1]:.2f}, of 1 ms"


# ---------------------------------------------------------------- jobs


def _model(width: int, layers: int) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def serve(device: str, scale: str) -> None:
    """Requests in an open loop at half load, for as many seconds as each line says."""
    width, layers, tokens = (768, 12, 128) if scale == "standard" else (64, 2, 16)
    model, x = _model(width, layers).to(device).eval(), torch.randn(1, tokens, width, device=device)

    @torch.no_grad()
    def request() -> None:
        model(x).sum().item()  # which waits for the device

    alone_s = statistics.median(_timed(request) for _ in range(50))
    print("ready", flush=True)
    draw = random.Random(0)
    for line in sys.stdin:
        until_s, responses_ms, comes_s = time.perf_counter() + float(line), [], time.perf_counter()
        while (comes_s := comes_s + draw.expovariate(LOAD / alone_s)) < until_s:
            time.sleep(max(0.0, comes_s - time.perf_counter()))
            request()
            responses_ms.append((time.perf_counter() - comes_s) * 1e3)
        print(json.dumps({"alone_ms": alone_s * 1e3, "responses_ms": responses_ms}), flush=True)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def train(device: str, scale: str) -> None:
    """Steps of training for as many seconds as each line says."""
    width, layers, batch, tokens = (1024, 12, 16, 512) if scale == "standard" else (64, 2, 4, 16)
    model, x = _model(width, layers).to(device), torch.randn(batch, tokens, width, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    def step_to_the_end() -> None:
        step()
        x[0, 0, 0].item()

    for _ in range(3):
        step_to_the_end()
    print("ready", flush=True)
    for line in sys.stdin:
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < float(line):
            step_to_the_end()
            steps += 1
        print(json.dumps({"steps_per_s": steps / (time.perf_counter() - began)}), flush=True)


JOBS: dict[str, Callable[[str, str], None]] = {"serve": serve, "train": train}


class Job:
    """One of them, as a process, under ``remora run`` where options are given."""

    def __init__(self, what: str, device: str, scale: str, folder: str, *options: str) -> None:
        ridden = ["-m", "remora", "run", *options] if options else []
        self._process = subprocess.Popen(
            [sys.executable, *ridden, "-m", "benchmarks.gpu_gate", what, device, scale],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"XDG_RUNTIME_DIR": folder},
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        self._read("ready\n")

    def begin(self, seconds: float) -> None:
        if self._process.stdin is None:
            raise Wrong("a job without an input")
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._read())
        return found

    def _read(self, wanted: str | None = None) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line or wanted not in (None, line):
            raise Wrong(f"a job said {line!r} and ended with {self._process.poll()}")
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def _jobs(device: str, scale: str) -> Iterator[tuple[Job, Job, Job]]:
    with _folder() as folder:
        serving = Job("serve", device, scale, folder, "--priority", "high")
        plain, gated = (Job("train", device, scale, folder, *each) for each in ((), GATED))
        jobs = (serving, plain, gated)
        try:
            for job in jobs:
                job.wait_until_ready()
            yield jobs
        finally:
            for job in jobs:
                job.end()


def beside(device: str, scale: str = "standard") -> str:
    """p99 of requests alone, beside a training that knows of nobody, and beside one at the gate."""
    seconds = SECONDS[scale]
    with _jobs(device, scale) as (serving, plain, gated):
        plain.begin(seconds / 2)
        trains_alone = plain.result()["steps_per_s"]
        serving.begin(seconds)
        alone = serving.result()
        said = [
            f"alone p99 {_p99(alone):.2f} ms ({len(alone['responses_ms'])} requests of "
            f"{alone['alone_ms']:.2f} ms), {trains_alone:.1f} steps/s"
        ]
        for name, training in (("unmanaged", plain), ("at the gate", gated)):
            training.begin(seconds)
            serving.begin(seconds)
            p99_ms, trains = _p99(serving.result()), training.result()["steps_per_s"]
            if not trains:
                raise Wrong(f"{name}: the training made no step")
            said.append(
                f"{name} {p99_ms:.2f} ms ({p99_ms / _p99(alone):.2f} ×), training "
                f"{trains / trains_alone:.2f}"
            )
    return "; ".join(said)


def _p99(result: dict[str, Any]) -> float:
    responses_ms: list[float] = sorted(result["responses_ms"])
    return responses_ms[-1 - len(responses_ms) // 100]


ROWS: dict[str, tuple[str, Callable[[str], str]]] = {
    "slot": ("share: the gate's slot, and what is in flight", slot),
    "beside": ("share: requests beside a training, with and without the gate", beside),
}


def in_a_process(name: str, device: str, limit_s: float) -> str:
    """What the row says, run in a process of its own."""
    return gpu_row.in_a_process("benchmarks.gpu_gate", name, device, min(BUDGET_S, limit_s))


if __name__ == "__main__":
    if sys.argv[1] in JOBS:
        JOBS[sys.argv[1]](*sys.argv[2:])
    else:
        print(ROWS[sys.argv[1]][1](*sys.argv[2:]))
