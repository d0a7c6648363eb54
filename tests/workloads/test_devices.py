"""Devices by name."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from remora.core.errors import BadValue, Unavailable
from remora.workloads import devices
from remora.workloads.devices import free_bytes, parse_device


def test_the_host_is_a_device() -> None:
    assert parse_device("cpu") == torch.device("cpu")
    assert 0 < free_bytes(torch.device("cpu")) <= psutil.virtual_memory().total


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:one", "cuda:-1", "CPU", "cpu "])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadValue, match="choose from: cpu, cuda, cuda:<index>"):
        parse_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_accelerator_is_said_with_the_next_step() -> None:
    with pytest.raises(Unavailable, match=r"cuda:0 is not available.*use --device cpu"):
        parse_device("cuda:0")


GIB = 2**30


def _container(folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What is free, on a machine with memory to spare, in a container whose files say this."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(devices, "_CGROUP", folder)
    plenty = psutil.virtual_memory()._replace(available=64 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: plenty)
    return free_bytes(torch.device("cpu"))


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ],
    ids=["v2", "v1"],
)
def test_cached_files_of_a_container_are_free(
    names: tuple[str, str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, used, stat, entry = names
    files = {
        limit: f"{8 * GIB}\n",
        used: f"{7 * GIB}\n",
        stat: f"anon {2 * GIB}\n{entry} {5 * GIB}\nactive_file 17\n",
    }
    assert _container(tmp_path, files, monkeypatch) == 6 * GIB


def test_a_container_without_a_limit_has_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"memory.max": "max\n", "memory.current": "17\n"}
    assert _container(tmp_path, files, monkeypatch) == 64 * GIB
