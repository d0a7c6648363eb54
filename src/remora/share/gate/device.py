"""Which device this process uses, found without touching one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def has_nvidia(devices: Path = Path("/dev")) -> bool:
    """Whether an NVIDIA device is here, by its files alone."""
    return any(devices.glob("nvidia[0-9]*"))


def cuda_in_use(torch: Any = None) -> int | None:
    """The CUDA device on which this process has most memory; None while it has used none.

    Which one a program computes on is nowhere written: the current device is the first until
    somebody sets it, and tensors may be elsewhere. CUDA is never begun here.
    """
    torch = torch or sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    held = [cuda.memory_reserved(index) for index in range(cuda.device_count())]
    return max(range(len(held)), key=held.__getitem__) if any(held) else None
