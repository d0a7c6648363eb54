"""kill -9 at random moments: nothing that was acknowledged is lost, and nothing is torn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(count: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kills.py")), str(tmp_path / "f"),
         str(count), "7"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"(\d+) kills, (\d+) acknowledged, \d+ newer.*", done.stdout.strip())
    assert found is not None, done.stdout
    assert int(found[1]) == count
    assert int(found[2]) > count  # they were killed in the midst of saving, not before it
