"""Trainings of two ranks, in each framework, go on as if they had not been interrupted."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoint.callbacks.killing import ROOT

RANKS = 2


def torchrun(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--standalone", f"--nproc-per-node={RANKS}", "-m"]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments,
         "tests.checkpoint.callbacks.ranks_program", program, str(folder)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [
        "accelerate",
        pytest.param("transformers", marks=pytest.mark.slow),
        pytest.param("lightning", marks=pytest.mark.slow),
    ],
)
def test_each_rank_goes_on_where_it_was(program: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(program) is None:
        pytest.skip(f"{program} is not installed: pip install 'remora[test]'")
    done = torchrun(program, tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in range(RANKS):
        assert f"rank {rank} went on as if nothing had happened" in done.stdout
