"""How long each workload takes to build and to step, and what memory it needs.

Run as ``python -m benchmarks.workloads [scale [device]]``. Every workload is measured in a process
of its own, since memory once taken is seldom given back.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch

from remora.core.units import format_bytes
from remora.workloads import registry
from remora.workloads.contract import SCALES, Scale
from remora.workloads.devices import parse_device

STEPS = 7
WARM_UP = 2


@dataclass(frozen=True)
class Row:
    """One workload, measured once: orientation, not evidence."""

    name: str
    scale: Scale
    device: str
    build_seconds: float
    step_ms: float
    """The median of a few steps after warming up."""
    parameters: int
    predicted_bytes: int
    peak_bytes: int
    """Peak resident set of the process, libraries included; on CUDA, peak device memory."""


def measure(
    scale: Scale = "quick", device: str = "cpu", names: Iterable[str] | None = None
) -> Iterator[Row]:
    """A row for each workload, as it is measured."""
    for name in names or registry.names():
        command = [sys.executable, "-m", "benchmarks.workloads", "--one", name, scale, device]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield Row(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(name: str, scale: Scale, device_name: str) -> Row:
    """Measure one workload in this process."""
    device = parse_device(device_name)
    torch.set_num_threads(1)
    workload = registry.get(name)
    footprint = workload.footprint(scale)  # imports what the build needs, too
    started = time.perf_counter()
    session = workload.build(scale, device)
    built = time.perf_counter() - started
    times = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        session.step()
        _wait(device)
        times.append(time.perf_counter() - started)
    return Row(
        name=name,
        scale=scale,
        device=device_name,
        build_seconds=round(built, 3),
        step_ms=round(statistics.median(times[WARM_UP:]) * 1e3, 2),
        parameters=footprint.parameters,
        predicted_bytes=footprint.total,
        peak_bytes=_peak_bytes(device),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def markdown(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of a table."""
    yield "| workload | parameters | build (s) | step (ms) | predicted | peak |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        sizes = f"{format_bytes(row.predicted_bytes)} | {format_bytes(row.peak_bytes)}"
        speeds = f"{row.build_seconds:.2f} | {row.step_ms:.1f}"
        yield f"| {row.name} | {row.parameters / 1e6:.1f} M | {speeds} | {sizes} |"


def _main(arguments: list[str]) -> None:
    if arguments[:1] == ["--one"]:
        name, scale_name, device = arguments[1:]
        print(json.dumps(asdict(measure_here(name, _scale(scale_name), device))))
        return
    scale_name = arguments[0] if arguments else "quick"
    device = arguments[1] if len(arguments) > 1 else "cpu"
    for line in markdown(measure(_scale(scale_name), device)):
        print(line, flush=True)


def _scale(name: str) -> Scale:
    return next(scale for scale in SCALES if scale == name)


if __name__ == "__main__":
    _main(sys.argv[1:])
