"""OpenMP is told before it starts, and the user's own word stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.share.system.jobs import environment, run

from remora.core.errors import BadValue
from remora.share.system.openmp import is_loaded, missing

SHOW = """
import os, sys, torch
print(os.getpid(), os.getppid(), sys.argv, torch.get_num_threads(), sys.stdin.readline())
"""


def test_what_the_user_has_set_stays() -> None:
    assert missing({}) == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert missing({"OMP_WAIT_POLICY": "ACTIVE"}) == {}
    assert missing({"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "8"}, 1) == {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def test_a_pool_of_no_threads_is_refused() -> None:
    with pytest.raises(BadValue, match="choose 1 or more threads"):
        missing({}, 0)


def test_the_runtime_itself_has_read_it(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import torch; torch.ones(9).sum()")
    shown = run(
        *(tmp_path, "run", "--priority", "best-effort", "--share-threads", "3", "job.py"),
        extra={"OMP_DISPLAY_ENV": "TRUE"},
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown.stderr
    assert "OMP_NUM_THREADS = '3'" in shown.stderr


def test_where_one_is_loaded_the_process_starts_anew_as_itself(tmp_path: Path) -> None:
    """Its number, its parent, its arguments and what waits on its standard input are the same."""
    runtime = next(Path(_torch()).glob("lib/libgomp*"), None)
    if runtime is None:
        pytest.skip("this torch has no libgomp of its own to load ahead")
    (tmp_path / "job.py").write_text(SHOW)
    job = subprocess.Popen(
        [sys.executable, "-m", "remora", "run", "--priority", "high", "job.py", "a b"],
        env=environment(tmp_path, {"LD_PRELOAD": str(runtime), "OMP_DISPLAY_ENV": "TRUE"}),
        cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = job.communicate("line", timeout=120)
    first = f"{job.pid} {os.getpid()} ['job.py', 'a b']"
    assert out.startswith(first)
    assert out.rstrip().endswith("line")
    assert err.count("OPENMP DISPLAY ENVIRONMENT BEGIN") >= 2  # once too early, then once more
    assert err.rindex("OMP_WAIT_POLICY = 'PASSIVE'") > err.index("OMP_WAIT_POLICY")


def test_a_runtime_is_seen_where_it_is(tmp_path: Path) -> None:
    import torch

    assert torch.get_num_threads()
    assert is_loaded()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "maps").write_text("7f00-7f01 r-xp 0 08:01 9 /usr/lib/libc.so.6\n")
    assert not is_loaded(tmp_path)
    assert is_loaded(tmp_path / "missing")


def _torch() -> str:
    import torch

    return str(Path(torch.__file__).parent)
