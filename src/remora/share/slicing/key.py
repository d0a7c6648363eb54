"""What a profile holds for: operator, how its arguments lie, device, torch, threads, the bound."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

ALIGNED_BYTES = 64
"""Where a tensor that begins at a multiple of this is computed as at any other: a cache line."""
_CPU_INFO = Path("/proc/cpuinfo")


class Key(Struct, frozen=True):
    """All that a profile depends on. As JSON, it is what a cache compares."""

    operator: str
    arguments: str
    device: str
    torch: str
    threads: tuple[int, ...]
    """The number of threads in use when it was measured; then others it was verified for."""
    turnaround_ns: int
    exact: bool


def signature(values: Iterable[Any]) -> tuple[Any, ...]:
    """The arguments, as far as time and the order of sums depend on them; made for every call.

    Of a tensor its shape, strides, dtype, device and alignment; of a float only whether it is
    simple: a learning rate may change in every step.
    """
    return tuple([_described(value) for value in values])


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        is_aligned = value.data_ptr() % ALIGNED_BYTES == 0
        return (value.shape, value.stride(), value.dtype, value.device, is_aligned)
    if isinstance(value, float):
        return value if value in _SIMPLE else "float"
    if isinstance(value, list | tuple):
        return signature(value)
    return value


_SIMPLE = frozenset({-1.0, 0.0, 0.5, 1.0, 2.0, 3.0})


@lru_cache(maxsize=64)
def device_name(device: torch.device) -> str:
    """The device and what it is: profiles of one machine are of no use on another."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {_processor()} {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
