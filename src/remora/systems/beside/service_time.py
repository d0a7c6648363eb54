"""How long a request takes alone: what a load is a share of. Found once for a workload, kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from remora.core.files import write_atomically

_FILE = "service.json"
_WARM_UP_STEPS = 5
_LEAST_STEPS = 20
_LEAST_NS = 2_000_000_000
_MOST_NS = 60_000_000_000
"""Beyond it few steps must do: one of a large model takes seconds."""


class ServiceTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of requests that follow each other in a closed loop, nothing beside them."""

    mean_ns: float
    median_ns: float
    steps: int


def measured(step: Callable[[], object], now_ns: Callable[[], int]) -> ServiceTime:
    """Make steps for a while."""
    for _ in range(_WARM_UP_STEPS):
        step()
    took = list[int]()
    while not _is_enough(took):
        began_ns = now_ns()
        step()
        took.append(now_ns() - began_ns)
    return ServiceTime(float(np.mean(took)), float(np.median(took)), len(took))


def _is_enough(took: list[int]) -> bool:
    total_ns = sum(took)
    return total_ns >= _MOST_NS or (total_ns >= _LEAST_NS and len(took) >= _LEAST_STEPS)


def store(found: ServiceTime, kept: Path) -> None:
    write_atomically(kept / _FILE, msgspec.json.encode(found))


def load(kept: Path) -> ServiceTime:
    return msgspec.json.decode((kept / _FILE).read_bytes(), type=ServiceTime)
