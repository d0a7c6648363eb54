"""A training program killed by SIGKILL at a random moment and started again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.checkpoint.callbacks import data

ROOT = Path(data.__file__).parents[3]
_PATIENCE_S = 200


def killed_and_resumed(
    program: str, folder: Path, *, seed: int, last: int
) -> tuple[str, list[str]]:
    """What ``python -m PROGRAM FOLDER LOG`` prints in the end, and every line of its log.

    It is killed at a random moment after it has written a random line, up to ``last``.
    """
    draw = random.Random(seed)
    log = folder.parent / "log"
    with _started(program, folder, log) as process:
        _wait_for_lines(process, log, draw.randint(2, last))
        time.sleep(draw.random() / 50)
        process.kill()
        assert process.wait() == -9
    with _started(program, folder, log) as process:
        said, complaint = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, complaint
    return said.strip(), log.read_text().splitlines()


def _started(program: str, folder: Path, log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.checkpoint.callbacks.{program}", str(folder), str(log)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_lines(process: subprocess.Popen[str], log: Path, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.002)
    raise AssertionError(f"{count} lines were not written in {_PATIENCE_S} s")
