"""What torch is told of the device, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import torch
from remora.remote.eager import backend
if {late}:
    torch.ones(1, requires_grad=True).sum().backward()
backend.register()
print(backend.goes_backwards())
"""


@pytest.mark.parametrize("late", [pytest.param(False, marks=pytest.mark.slow), True])
def test_who_goes_backwards_before_there_is_a_device_is_told(late: bool) -> None:
    program = [sys.executable, "-c", _PROGRAM.format(late=late)]
    ran = subprocess.run(program, capture_output=True, text=True, check=True)

    assert ran.stdout.strip().endswith(str(not late))
    assert ("before the first backward()" in ran.stderr + ran.stdout) == late
