"""Devices by name."""

from __future__ import annotations

import psutil
import pytest
import torch

from remora.core.errors import BadValue, Unavailable
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
