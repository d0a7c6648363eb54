"""What a digest of every element costs: on the host, and the device's reduction run there too."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.page import table
from remora.check.digest import device_digest, digest

SIZES = {"1 kB": 256, "1 MB": 1 << 18, "48 MB": 12 << 20}
"""float32 elements."""
ROUNDS = 7


def section() -> str:
    """A table: microseconds and bytes a second by size, medians of several rounds."""
    rows = []
    for name, elements in SIZES.items():
        tensor = torch.randn(elements)
        host = _median_s(lambda tensor=tensor: digest(tensor))  # type: ignore[misc]
        twin = _median_s(lambda tensor=tensor: int(device_digest(tensor)))  # type: ignore[misc]
        rows.append([name, f"{host * 1e6:,.1f} µs", _rate(tensor, host), _rate(tensor, twin)])
    return table(["float32", "host", "host, GB/s", "reduction run on the CPU, GB/s"], rows)


def _rate(tensor: torch.Tensor, seconds: float) -> str:
    return f"{tensor.nbytes / seconds / 1e9:.2f}"


def _median_s(work: Callable[[], object]) -> float:
    once = _seconds(work, 1)
    times = max(1, int(0.02 / once))
    return sorted(_seconds(work, times) / times for _ in range(ROUNDS))[ROUNDS // 2]


def _seconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - began
