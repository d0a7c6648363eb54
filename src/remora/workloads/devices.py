"""Devices by name, and how much memory is free on them."""

from __future__ import annotations

from dataclasses import dataclass
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
    within = _free_in_container()
    return available if within is None else min(available, within)


@dataclass(frozen=True)
class _Limits:
    """Where a version of control groups keeps a container's memory limit and use."""

    limit: str
    used: str
    stat: str
    reclaimable: str
    """The entry of ``stat`` that counts file pages the kernel drops when memory runs short."""


_VERSIONS = (
    _Limits("memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Limits(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def _free_in_container() -> int | None:
    """Bytes left under the container's limit, or None where there is none.

    Cached files that can be dropped are free: a container that writes checkpoints fills up with
    them.
    """
    for files in _VERSIONS:
        limit, used = _count(files.limit), _count(files.used)
        if limit is not None and used is not None:
            reclaimable = min(used, _stat(files.stat).get(files.reclaimable, 0))
            return max(0, limit - used + reclaimable)
    return None


def _count(name: str) -> int | None:
    text = _read(name).strip()
    return int(text) if text.isdigit() else None


def _stat(name: str) -> dict[str, int]:
    """Lines of a name and a number each."""
    pairs = (line.split() for line in _read(name).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read(name: str) -> str:
    """What a file of the control group says; nothing where there is no such file."""
    try:
        return (_CGROUP / name).read_text()
    except OSError:
        return ""
