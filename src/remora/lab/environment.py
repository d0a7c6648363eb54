"""The machine as it was: what a reader needs to believe or repeat a result (rule 11)."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

import remora
from remora.lab.device import cuda_description
from remora.lab.executors.contract import thread_environment
from remora.lab.results import Environment

_PACKAGES = ("torch", "numpy", "transformers", "msgspec", "safetensors", "xxhash", "scipy")
COMPARED = {
    "machine": ("cpu", "cores", "affinity", "memory_bytes", "governor"),
    "versions": ("python", "torch"),
    "device": ("name", "capability", "cuda"),
}
"""What must agree for two results to be compared without force."""


ALSO_FOR_ONE_FOLDER = {
    "versions": ("remora", "numpy", "transformers"),
    "git": ("commit",),
}
"""What must agree, too, for trials to stand in one folder."""


def capture(threads: int, device: str = "cuda") -> Environment:
    """The environment now, for trials of ``threads`` threads on ``device``."""
    return Environment(
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        load=_load(),
        versions=_versions(),
        threads={"trial_threads": threads, **thread_environment(threads)},
        device=cuda_description(device),
        git=_git(),
    )


def differences(a: Environment, b: Environment) -> list[str]:
    """What differs between two environments and forbids comparing them, in words."""
    found = _unequal(a, b, COMPARED)
    if a.threads.get("trial_threads") != b.threads.get("trial_threads"):
        found.append(
            f"threads: {a.threads.get('trial_threads')} against {b.threads.get('trial_threads')}"
        )
    return found


def changes(before: Environment, now: Environment) -> list[str]:
    """What forbids adding trials made ``now`` to a folder begun ``before``, in words."""
    return differences(before, now) + _unequal(before, now, ALSO_FOR_ONE_FOLDER)


def _unequal(a: Environment, b: Environment, compared: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{section} {key}: {getattr(a, section).get(key)} against {getattr(b, section).get(key)}"
        for section, keys in compared.items()
        for key in keys
        if getattr(a, section).get(key) != getattr(b, section).get(key)
    ]


def steal_and_total_jiffies() -> tuple[int, int]:
    """CPU time taken by the hypervisor, and all CPU time, since boot; zeros where unknown."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0, 0
    return int(fields[7]), sum(int(field) for field in fields[:8])


def steal_share_since(before: tuple[int, int]) -> float | None:
    """Share of CPU time taken by the hypervisor since ``before``; None when no time has passed."""
    steal, total = steal_and_total_jiffies()
    elapsed = total - before[1]
    return (steal - before[0]) / elapsed if elapsed > 0 else None


def oom_kills() -> int:
    """How many processes the kernel has killed for memory since boot; 0 where unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _machine() -> dict[str, str | int | float | None]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "affinity": ",".join(str(core) for core in sorted(os.sched_getaffinity(0))),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "system": platform.system(),
        "virtualised": "yes" if "hypervisor" in (_read("/proc/cpuinfo") or "") else "no",
    }


def _load() -> dict[str, float | None]:
    one, five, fifteen = os.getloadavg()
    steal, total = steal_and_total_jiffies()
    return {
        "load_1m": one,
        "load_5m": five,
        "load_15m": fifteen,
        "steal_share_since_boot": steal / total if total else None,
        "free_memory_bytes": float(psutil.virtual_memory().available),
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    found["implementation"] = sys.implementation.name
    found["remora"] = remora.__version__
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["torch"] = str(torch.__version__)
    return found


def _git() -> dict[str, str | bool | None]:
    """The commit Remora was imported from, when it was imported from a checkout."""
    root = Path(remora.__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    commit, status = _ask_git(root, "rev-parse", "HEAD"), _ask_git(root, "status", "--porcelain")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _ask_git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
