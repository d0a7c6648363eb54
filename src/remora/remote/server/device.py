"""The devices that a server may run models on."""

from __future__ import annotations

import torch

from remora.core.errors import BadValue


def device_here(name: str) -> str:
    """``name``, if there is such a device here.

    Raises:
        BadValue: torch knows none, or the machine has none.
    """
    count = torch.cuda.device_count()
    known = ["cpu", *(f"cuda:{index}" for index in range(count))]
    if name not in known and not (name == "cuda" and count):
        raise BadValue(f"there is no device {name!r} here; choose from: {', '.join(known)}")
    return name


def is_short_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that the host, or a device, has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)  # of the CPU
