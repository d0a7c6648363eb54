"""A row of the table of a GPU in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def in_a_process(module: str, name: str, device: str, limit_s: float) -> str:
    """What row ``name`` of ``module`` says.

    Raises:
        RuntimeError: it failed; its last lines.
        TimeoutExpired: it took longer.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, name, device],
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-1500:])
    return done.stdout.strip().splitlines()[-1]
