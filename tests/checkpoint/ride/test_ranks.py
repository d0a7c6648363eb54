"""Two ranks under torchrun, killed and resumed together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.checkpoint.ride.conftest import SCRIPTS

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RIDDEN = ("-m", "remora", "run", "--checkpoint", "saved", "--every", "3")


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *LAUNCHER, *command, str(SCRIPTS / "ranks.py")],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_ranks_resume_at_one_step_and_learn_what_undisturbed_ones_do(tmp_path: Path) -> None:
    beside, folder = tmp_path / "plainly", tmp_path / "ridden"
    plain = start(beside)
    undisturbed, _ = plain.communicate(timeout=200)
    killed = start(folder, *RIDDEN)
    while len(lines(folder / "losses.0")) < 15:
        assert killed.poll() is None
        time.sleep(0.05)
    for rank in (0, 1):
        os.kill(int((folder / f"pid.{rank}").read_text()), signal.SIGKILL)
    killed.communicate(timeout=100)
    resumed, errors = start(folder, *RIDDEN).communicate(timeout=200)

    assert errors.count("remora: checkpoint: resumed at step ") == 2, errors
    assert sorted(resumed.splitlines()) == sorted(undisturbed.splitlines())
    for rank in (0, 1):
        assert lines(folder / f"losses.{rank}") == lines(beside / f"losses.{rank}")


@pytest.mark.slow
def test_ranks_told_to_end_save_the_same_step_and_lose_none(tmp_path: Path) -> None:
    beside, folder = tmp_path / "plainly", tmp_path / "ridden"
    start(beside).communicate(timeout=200)
    rarely = (*RIDDEN[:-1], "1000")
    told = start(folder, *rarely)
    while len(lines(folder / "losses.0")) < 15:
        assert told.poll() is None
        time.sleep(0.05)
    told.send_signal(signal.SIGTERM)  # to the launcher, which passes it on
    _, errors = told.communicate(timeout=100)
    assert errors.count("told to end: saving step") == 2, errors
    done = len(lines(folder / "losses.0"))
    assert done == len(lines(folder / "losses.1")) < 60
    _, errors = start(folder, *rarely).communicate(timeout=200)

    assert errors.count(f"remora: checkpoint: resumed at step {done} ") == 2, errors
    for rank in (0, 1):
        assert lines(folder / f"losses.{rank}") == lines(beside / f"losses.{rank}")
