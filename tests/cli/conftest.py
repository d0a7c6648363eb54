"""The command line as a user has it: a process, its screen, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Remora = Callable[..., subprocess.CompletedProcess[str]]

SMALL = (
    *("bench", "quick", "--workload", "micro-matmul-forward"),
    *("--seconds", "0.05", "--executor", "forkserver"),
)
"""The smallest bench there is."""


@pytest.fixture
def remora(tmp_path: Path) -> Remora:
    """Run ``remora ARGUMENTS`` in an empty folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remora", *arguments],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120"} | environment,
            capture_output=True,
            text=True,
            timeout=280,
        )

    return run
