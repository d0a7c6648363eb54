"""What an outcome says of its tensor."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from remora.workloads.contract import Outcome

KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_value_is_the_mean_of_all_elements(dtype: torch.dtype) -> None:
    tensor = (torch.arange(3 * 2**20 + 5) % 7 < 2).to(dtype).reshape(-1, 1)
    expected = tensor.double().mean().item()
    assert Outcome(tensor).value == pytest.approx(expected, rel=1e-12)
    assert Outcome(tensor.mT).value == pytest.approx(expected, rel=1e-12)


def test_a_scalar_is_its_own_value_and_nothing_is_zero() -> None:
    assert Outcome(torch.tensor(2.5)).value == 2.5
    assert Outcome(torch.empty(0, 3)).value == 0.0


_PEAK = """
import json, torch
from pathlib import Path
from remora.workloads.contract import Outcome

def peak_bytes():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

Outcome(torch.ones(2**21)).value
outcome = Outcome(torch.ones(2**26))
before = peak_bytes()
assert outcome.value == 1.0
print(json.dumps(peak_bytes() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_reading_a_large_output_takes_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) < 2**26  # of an output of 2**28 bytes
