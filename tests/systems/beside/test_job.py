"""The best-effort job's process: it trains, counts, fails aloud, and dies with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from remora.core.errors import Unavailable, UnknownName
from remora.systems.beside import sharing
from remora.systems.beside.job import LEAST_STEPS_ALONE, BestEffortProcess
from remora.systems.beside.order import Order
from remora.systems.beside.progress import (
    GOING,
    MOST_STEPS,
    Progress,
    cpu_clock_of,
    steps_done,
)


def order(folder: Path, **changes: object) -> Order:
    values: dict[str, object] = {
        "workload": "mlp-train",
        "scale": "quick",
        "device": "cpu",
        "seed": 1,
        "threads": 1,
        "cores": sorted(os.sched_getaffinity(0))[-1:],
        "executor": "operating-system",
        "policy": "idle",
        "meeting": str(folder / "jobs"),
        "progress": str(folder / "progress"),
    }
    return Order(**(values | changes))  # type: ignore[arg-type]


def test_progress_is_what_another_process_wrote_down(tmp_path: Path) -> None:
    writer = Progress(tmp_path / "progress", is_new=True)
    reader = Progress(tmp_path / "progress", is_new=False)
    writer.state = GOING
    for wall_ns, cpu_ns in ((10, 0), (30, 15), (50, 30)):
        writer.add(wall_ns, cpu_ns)
    assert reader.state == GOING
    assert reader.ends().tolist() == [[10, 0], [30, 15], [50, 30]]


@pytest.mark.parametrize(("cpu_ns", "steps"), [(30, 2.0), (36, 2.4), (45, 3.0), (99, 3.0)])
def test_a_step_in_the_making_counts_by_its_cpu_time(cpu_ns: int, steps: float) -> None:
    ends = np.array([[10, 0], [30, 15], [50, 30]])
    assert steps_done(ends, cpu_ns, 15.0) == pytest.approx(steps)


def test_more_steps_than_can_be_kept_are_refused(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress", is_new=True)
    progress._cells[1] = MOST_STEPS
    with pytest.raises(IndexError, match="choose a shorter time"):
        progress.add(1, 1)


def test_an_unknown_policy_or_executor_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match=r"choose from: .*idle.*plain"):
        sharing.executor("operating-system").check("turbo")
    with pytest.raises(UnknownName, match="operating-system"):
        sharing.executor("gpu")


def test_a_policy_that_is_not_permitted_is_no_row_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    monkeypatch.setattr(os, "setpriority", refused)
    with pytest.raises(Unavailable, match="would be another row"):
        sharing.executor("operating-system").train(order(tmp_path))


@pytest.mark.slow
def test_one_whose_policy_no_longer_acts_ends(tmp_path: Path) -> None:
    """The guardian is killed: the job would go on under another policy, and its row would lie."""
    job = BestEffortProcess(order(tmp_path, policy="stop"), cpu_clock_of)
    try:
        job.run_alone(0.1)
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if "guardian" in words and str(tmp_path) in words:
                process.kill()
        until_s = time.monotonic() + 10
        with pytest.raises(Unavailable, match="stop does not act, and idle instead"):
            while time.monotonic() < until_s:
                job.check()
                time.sleep(0.02)
    finally:
        job.close()


@pytest.mark.slow
def test_it_trains_in_the_idle_class_until_it_is_closed(tmp_path: Path) -> None:
    job = BestEffortProcess(order(tmp_path), cpu_clock_of)
    try:
        job.run_alone(0.2)
        first = job.read()
        assert os.sched_getscheduler(job._process.pid) == os.SCHED_IDLE
        time.sleep(0.3)
        assert job.read().steps > first.steps > LEAST_STEPS_ALONE - 1
        assert job.peak_rss_bytes() > 2**20
    finally:
        job.close()
    assert job._process.returncode == 0
    with pytest.raises(Unavailable, match="mlp-train ended"):
        job.check()


@pytest.mark.slow
def test_one_that_cannot_be_built_says_so(tmp_path: Path) -> None:
    job = BestEffortProcess(order(tmp_path, workload="no-such-train"), cpu_clock_of)
    with pytest.raises(Unavailable, match=r"no-such-train ended .*unknown workload"):
        job.run_alone(0.1)
    job.close()


_PARENT = """
import sys, time
from pathlib import Path
import msgspec
from remora.systems.beside.job import BestEffortProcess
from remora.systems.beside.order import Order
from remora.systems.beside.progress import cpu_clock_of
job = BestEffortProcess(msgspec.json.decode(sys.argv[1], type=Order), cpu_clock_of)
job.run_alone(0.05)
print(job._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["plain", "stop"])
def test_it_dies_with_its_parent(tmp_path: Path, policy: str) -> None:
    import msgspec

    text = msgspec.json.encode(order(tmp_path, policy=policy)).decode()
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, text], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until_s = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
