"""A job that serves and one that trains on one core: what each mechanism leaves of either.

Requests of about 10 ms come as Poisson arrivals at half load, the same ones in every arm; the other
job does steps of a real training. Arms in random order within each round, each in fresh processes.
Response is from arrival to end. What taking a place costs the serving job is measured in one
process, forwards with the service attached beside forwards without, in random order.

Run it with ``python -m benchmarks sharing``; ``python -m benchmarks.sharing`` prints and writes
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.page import table
from benchmarks.sharing_jobs import serve, train
from remora.lab.statistics.ratios import log_ratios, mean_interval, mean_ratio
from remora.lab.statistics.tails import tail
from remora.share.arrivals.poisson import Poisson
from remora.share.policies.contract import Priority
from remora.share.simulator.results import JobResult
from remora.share.system.service import Share
from remora.tap.job import Job

LOAD, SERVICE_MS, SECONDS, ROUNDS, SEED = 0.5, 10.0, 8.0, 2, 0
GATE_ROUNDS, FORWARDS = 150, 5
ALONE_SERVING, ALONE_TRAINING, PLAIN = "serving alone", "training alone", "plain"
MECHANISMS = ("nice", "idle", "stop")
ARMS = (ALONE_SERVING, ALONE_TRAINING, PLAIN, *MECHANISMS)
_LEAD_NS = 300_000_000
"""Both jobs are told to begin so far ahead."""


@dataclass(frozen=True)
class Trial:
    """What one arm yielded in one round."""

    serving: JobResult | None
    busy: float
    """The share of the core that requests took, had nothing been beside them."""
    steps: int | None


def section() -> str:
    """Both tables as Markdown, with how they were measured."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="remora-") as name, _one_core():
        folder = Path(name)
        layers, service_s = _sized()
        arrivals = Poisson().draw(LOAD / service_s, round(SECONDS * 1e9), SEED)
        trials: dict[str, list[Trial]] = {arm: [] for arm in ARMS}
        order, draw = list(ARMS), random.Random(SEED)
        for _ in range(ROUNDS):
            draw.shuffle(order)
            for arm in order:
                trials[arm].append(_trial(arm, folder, layers, arrivals, service_s))
        gate = _gate(folder, layers)
    return f"{_how(len(arrivals), service_s)}\n\n{_arms(trials)}\n\n{_gate_said(gate)}"


def _how(requests: int, service_s: float) -> str:
    return (
        f"Executor: system. One core, {requests} requests of {service_s * 1e3:.1f} ms in "
        f"{SECONDS:g} s, {ROUNDS} rounds in fresh processes; response from arrival, p99 over all "
        "rounds with its order-statistic bounds. *Training* is its steps over those alone; *of "
        "what is left*, that over what the requests leave of the core. A queue that grows is "
        "marked: its percentiles only say for how long was measured."
    )


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """For this process and all it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _sized() -> tuple[int, float]:
    """How many layers make a request of about 10 ms, and how many seconds it takes then."""
    layers = 8
    for _ in range(2):
        layers = max(1, round(layers * SERVICE_MS / 1e3 / _forward_s(layers)))
    return layers, _forward_s(layers)


def _forward_s(layers: int) -> float:
    net, x = serve.model(layers), torch.zeros(serve.ROWS, serve.WIDTH)
    with torch.no_grad():
        took = [_timed(lambda: net(x)) for _ in range(60)]
    return statistics.median(took[10:])


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---------------------------------------------------------------- arms


def _trial(arm: str, folder: Path, layers: int, arrivals: Any, service_s: float) -> Trial:
    serving = training = None
    if arm != ALONE_TRAINING:
        options = ["--priority", "high"] if arm in MECHANISMS else None
        serving = _start(folder, serve.__file__, [str(layers)], options)
    if arm != ALONE_SERVING:
        options = ["--priority", "best-effort", "--share-mechanism", arm]
        training = _start(folder, train.__file__, [], options if arm in MECHANISMS else None)
    time.sleep(0.5)  # a guardian that is there has found the other by then
    begin_ns = time.monotonic_ns() + _LEAD_NS
    end_ns = begin_ns + round(SECONDS * 1e9)
    task = {"begin_ns": begin_ns, "end_ns": end_ns, "arrivals_ns": arrivals.tolist()}
    for job in (serving, training):
        if job is not None and job.stdin is not None:
            job.stdin.write(json.dumps(task) + "\n")
            job.stdin.flush()
    served = None if serving is None else _served(_result(serving), arrivals)
    steps = None if training is None else int(_result(training)["steps"])
    return Trial(served, len(arrivals) * service_s / SECONDS, steps)


def _start(
    folder: Path, script: str | None, arguments: list[str], options: list[str] | None
) -> subprocess.Popen[str]:
    command = [] if options is None else ["-m", "remora", "run", *options]
    job = subprocess.Popen(
        [sys.executable, *command, str(script), *arguments],
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if job.stdout is None or job.stdout.readline() != "ready\n":
        raise RuntimeError(f"{script} did not start")
    return job


def _result(job: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.communicate(timeout=20 * SECONDS)[0])
    return found


def _served(found: dict[str, Any], arrivals: Any) -> JobResult:
    duration_ns = round(SECONDS * 1e9)
    done = np.array(found["done_ns"])
    return JobResult(
        name="serve",
        priority=Priority.HIGH,
        duration_ns=duration_ns,
        arrivals_ns=arrivals,
        began_ns=np.array(found["began_ns"]),
        finished_ns=np.where(done > duration_ns, -1, done),
        is_open_loop=True,
        units_done=len(done),
        useful_ns=0,
        device_ns=0,
    )


def _arms(trials: dict[str, list[Trial]]) -> str:
    alone_ms = _p99(_responses(trials[ALONE_SERVING]))
    steps_alone = statistics.mean(each.steps or 0 for each in trials[ALONE_TRAINING])
    rows = [_row(arm, trials[arm], alone_ms, steps_alone) for arm in ARMS]
    columns = ("arm", "p50, ms", "p99, ms", "bounds", "p99 × alone", "training", "of what is left")
    return table(columns, rows)


def _responses(found: list[Trial]) -> list[Any]:
    return [each.serving.response_ns() / 1e6 for each in found if each.serving is not None]


def _p99(responses: list[Any]) -> float:
    return float(np.quantile(np.concatenate(responses), 0.99, method="inverted_cdf"))


def _row(arm: str, found: list[Trial], p99_alone_ms: float, steps_alone: float) -> list[str]:
    cells = ["–"] * 4
    if responses := _responses(found):
        p99, pooled = tail(responses, 0.99), np.concatenate(responses)
        grows = any(each.serving is not None and each.serving.is_unstable() for each in found)
        value_ms = _p99(responses)
        known = p99.low is not None and p99.high is not None
        cells = [
            f"{np.median(pooled):.1f}",
            f"{value_ms:.1f}" + (" (grows)" if grows else ""),
            f"{p99.low:.1f} … {p99.high:.1f}" if known else "too few requests",
            f"{value_ms / p99_alone_ms:.2f}",
        ]
    steps = [each.steps for each in found if each.steps is not None]
    if not steps:
        return [arm, *cells, "–", "–"]
    share = statistics.mean(steps) / steps_alone
    left = 1 - found[0].busy if responses else 1.0
    return [arm, *cells, f"{share:.2f}", f"{share / left:.2f}"]


# ---------------------------------------------------------------- what a place costs


def _gate(folder: Path, layers: int) -> dict[str, list[float]]:
    """Seconds of a forward, a list a way: without the service, with it, with a guardian too."""
    net, x = serve.model(layers), torch.zeros(serve.ROWS, serve.WIDTH)
    took: dict[str, list[float]] = {"without": [], "attached": [], "guardian": []}
    draw = random.Random(SEED)
    sleeper = folder / "sleep.py"
    sleeper.write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    options = ["--priority", "best-effort", "--share-mechanism", "stop"]
    other = _start(folder, str(sleeper), [], options)
    try:
        for _ in range(GATE_ROUNDS):
            for way in draw.sample(list(took), len(took)):
                with _attached(way, folder), torch.no_grad():
                    net(x)
                    took[way].append(
                        statistics.mean(_timed(lambda: net(x)) for _ in range(FORWARDS))
                    )
    finally:
        other.kill()
        other.communicate()
    return took


@contextlib.contextmanager
def _attached(way: str, folder: Path) -> Iterator[None]:
    if way == "without":
        yield
        return
    service = Share(Priority.HIGH, folder=folder / ("remora" if way == "guardian" else "nobody"))
    job = Job(strict=True)
    job.attach(service)
    try:
        while way == "guardian" and not service.guardians:
            time.sleep(0.01)
        yield
    finally:
        job.detach_all()


def _gate_said(took: dict[str, list[float]]) -> str:
    lines = []
    for way, what in (("attached", "no guardian"), ("guardian", "a guardian that listens")):
        ratios = log_ratios(took[way], took["without"])
        interval, ratio = mean_interval(ratios), mean_ratio(ratios)
        if interval is not None and ratio is not None:
            lines.append(f"{what}: {ratio:.4f} ({interval.low:.4f} … {interval.high:.4f})")
    return (
        "A forward of the serving job with its place taken, over one without, in one process, "
        f"{GATE_ROUNDS} rounds: {'; '.join(lines)}."
    )


if __name__ == "__main__":
    print(section())
