"""The command line as a user has it: a process, its screen, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

Done = subprocess.CompletedProcess[str]

SMALL = (
    *("bench", "quick", "--workload", "micro-matmul-forward"),
    *("--seconds", "0.05", "--executor", "forkserver"),
)
"""The smallest bench there is."""


def run(folder: Path, *arguments: str, timeout: float = 280) -> Done:
    """``remora ARGUMENTS`` in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "remora", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
