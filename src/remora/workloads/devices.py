"""Devices by name, and how much memory is free on them."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from remora.core.errors import BadValue, Unavailable

_CGROUP = Path("/sys/fs/cgroup")


def parse_device(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` or ``cuda:<index>``.

    Raises:
        BadValue: the name is of no such form.
        Unavailable: there is no such CUDA device here.
    """
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or name.endswith(":"):
        raise BadValue(f"unknown device {name!r}; choose from: cpu, cuda, cuda:<index>")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        reason = "PyTorch sees no CUDA device" if built else "this PyTorch is built without CUDA"
        remedy = "check nvidia-smi" if built else "install a CUDA build of torch"
        raise Unavailable(f"{name} is not available: {reason}; {remedy}, or use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise Unavailable(
            f"{name} is not available: this machine's devices are cuda:0 to cuda:{last}"
        )
    return torch.device("cuda", int(index) if index else torch.cuda.current_device())


def free_bytes(device: torch.device) -> int:
    """Bytes that can be had on ``device`` now; on the host, within the container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    limit, used = _read_count("memory.max"), _read_count("memory.current")
    return available if limit is None or used is None else min(available, max(0, limit - used))


def _read_count(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
