"""The contract of an executor, held against every one: results, failures, timeouts, isolation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.lab.builders import make_spec

from remora.lab import executors
from remora.lab.executors import Executor
from remora.lab.results import Arm, Trial, TrialSpec
from remora.lab.worker import Job


@pytest.fixture(params=executors.EXECUTORS, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = executors.create(request.param, threads=1)
    yield made
    made.close()


@pytest.fixture(params=["spawn", "forkserver"], scope="module")
def isolating(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """The executors that give a trial a process of its own."""
    made = executors.create(request.param, threads=1)
    yield made
    made.close()


def spec(workload: str = "micro-matmul-forward", **changes: object) -> TrialSpec:
    arm = Arm(workload=workload, system="native", label="native", role="baseline")
    return make_spec(arm, id="a", seconds=0.05, min_steps=3, max_steps=5, **changes)


def job(directory: Path, trial: TrialSpec) -> Job:
    scratch = directory / "scratch"
    scratch.mkdir()
    return Job(
        spec=trial,
        result=str(directory / "result.json"),
        log=str(directory / "a.log"),
        log_name="logs/a.log",
        scratch=str(scratch),
        asked_ns=time.perf_counter_ns(),
    )


def result(directory: Path) -> Trial:
    return msgspec.json.decode((directory / "result.json").read_bytes(), type=Trial)


def test_a_trial_runs_and_its_result_is_on_disk(executor: Executor, tmp_path: Path) -> None:
    ended = executor.run(job(tmp_path, spec()), timeout_s=120)
    assert (ended.exit_code, ended.timed_out) == (0, False)
    trial = result(tmp_path)
    assert trial.failure is None
    assert trial.samples is not None
    assert trial.start_up is not None
    assert 3 <= len(trial.samples.step_ns) <= 5
    assert trial.start_up.spawn_ns > 0


def test_a_trial_that_raises_says_so(executor: Executor, tmp_path: Path) -> None:
    ended = executor.run(job(tmp_path, spec("no-such-model-train")), timeout_s=120)
    assert ended.exit_code == 1
    failure = result(tmp_path).failure
    assert failure is not None
    assert failure.kind == "raised"
    assert failure.message.startswith("UnknownName: unknown workload 'no-such-model-train'")


def test_the_log_holds_what_the_process_printed(isolating: Executor, tmp_path: Path) -> None:
    isolating.run(job(tmp_path, spec("no-such-model-train")), timeout_s=120)
    assert "Traceback (most recent call last)" in (tmp_path / "a.log").read_text()


def test_a_trial_that_takes_too_long_is_killed(isolating: Executor, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(spec(), seconds=600.0, max_steps=10**9)
    began = time.monotonic()
    ended = isolating.run(job(tmp_path, slow), timeout_s=2)
    assert ended.timed_out
    assert ended.exit_code == -signal.SIGKILL
    assert time.monotonic() - began < 20
    assert not (tmp_path / "result.json").exists()


@pytest.mark.slow
def test_trials_share_no_process(isolating: Executor, tmp_path: Path) -> None:
    children = len(psutil.Process().children())
    pids = {os.getpid()}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wrong = spec("no-such-model-train")
        arm = msgspec.structs.replace(wrong.arm, workload=f"no-such-{name}")
        asked = job(tmp_path / name, msgspec.structs.replace(wrong, arm=arm))
        asked = msgspec.structs.replace(asked, result="/proc/self/there-is-no-such-file")
        isolating.run(asked, timeout_s=120)
        found = re.search(r"/proc/(\d+)|\.there-is-no-such-file\.(\d+)\.tmp", _log(tmp_path / name))
        assert found is not None
        pids.add(int(found[1] or found[2]))
    assert len(pids) == 3
    assert len(psutil.Process().children()) == children


def _log(directory: Path) -> str:
    return (directory / "a.log").read_text()


ORPHAN = """
import sys, time
from pathlib import Path
import msgspec
from remora.lab import executors
from remora.lab.worker import Job

def main():
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    executors.create(sys.argv[1], threads=1).run(job, 600)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spawn", "forkserver"])
def test_a_worker_dies_with_its_parent(name: str, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(spec(), seconds=600.0, max_steps=10**9)
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    parent = subprocess.Popen([sys.executable, str(script), name], stdin=subprocess.PIPE)
    assert parent.stdin is not None
    parent.stdin.write(msgspec.json.encode(job(tmp_path, slow)) + b"\n")
    parent.stdin.flush()
    try:
        family = _wait_for_worker(parent.pid, name)
        parent.kill()
        parent.wait()
        gone, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
        assert gone
    finally:
        parent.kill()
        parent.stdin.close()


def _wait_for_worker(pid: int, name: str) -> list[psutil.Process]:
    """The parent's descendants, once one of them has been stepping for a while."""
    wanted = 1 if name == "spawn" else 3  # the resource tracker, the server, the worker
    for _ in range(300):
        family = psutil.Process(pid).children(recursive=True)
        if len(family) >= wanted and max(p.cpu_times().user for p in family) > 2:
            return family
        time.sleep(0.1)
    raise TimeoutError("no worker came up")
