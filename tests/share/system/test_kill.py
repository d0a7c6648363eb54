"""kill -9 at random points: whoever dies, the others go on within a second, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.share.system.jobs import SPIN, environment, names, run, start, state, wait_until
from tests.share.system.test_stop import STOP

from remora.share.system import processes

SERVE_FAST = """
import random, sys, time
from pathlib import Path
from types import SimpleNamespace
from remora.share.policies.contract import Priority
from remora.share.system.service import Share

class Steps:
    '''Forwards without torch, so that a job is there in no time.'''
    after = before = None
    def subscribe_forward(self, after, before):
        self.after, self.before = after, before
        return SimpleNamespace(remove=self.forget)
    def forget(self):
        self.after = self.before = None

steps = Steps()
service = Share(Priority.HIGH, command=["serve"])
service.attach(SimpleNamespace(steps=steps))
print("ready", flush=True)
draw = random.Random(int(sys.argv[1]))
while True:
    after, before = steps.after, steps.before
    if before: before(None)
    time.sleep(draw.uniform(0, 0.02))
    if after: after(None)
    time.sleep(draw.uniform(0, 0.02))
"""
FORGOTTEN_S = 1.0


class Jobs:
    """One of each kind, begun anew when it has been killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seed = folder, 0
        self.begin_high()
        self.begin_best_effort()

    def begin_high(self) -> None:
        self.seed += 1
        self.high = subprocess.Popen(
            [sys.executable, "-c", SERVE_FAST, str(self.seed)],
            env=environment(self.folder), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.high.stdout is not None
        assert self.high.stdout.readline() == "ready\n"

    def begin_best_effort(self) -> None:
        before = set(_guardians())
        self.best_effort = start(self.folder, SPIN, "600", options=STOP)
        pid = str(self.best_effort.pid).encode()
        [self.guardian] = [
            each for each in set(_guardians()) - before if b'"pid":%s,' % pid in _command(each)
        ]

    def kill(self, who: str) -> None:
        if who == "guardian":
            os.kill(self.guardian, signal.SIGKILL)
        else:
            job: subprocess.Popen[str] = getattr(self, who)
            job.kill()
            job.communicate()

    def end(self) -> None:
        for job in (self.best_effort, self.high):
            if job.poll() is None:
                job.kill()
                job.communicate()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _guardians() -> list[int]:
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return [pid for pid in pids if b"remora.share.system.guardian" in _command(pid)]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.end()


def goes_on(pid: int, within_s: float = FORGOTTEN_S) -> None:
    """It gets CPU time: stopped for good it would not."""
    wait_until(lambda: state(pid) != "T", within_s)


def rounds(jobs: Jobs, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(count):
        who = draw.choice(["high", "best_effort", "guardian"])
        time.sleep(draw.uniform(0, 0.1))
        jobs.kill(who)
        if who == "best_effort":
            wait_until(lambda: not processes.is_alive(jobs.guardian, None), FORGOTTEN_S)
            jobs.begin_best_effort()
        else:
            goes_on(jobs.best_effort.pid)
        if who == "high":
            jobs.begin_high()
        if who == "guardian":
            pid = jobs.best_effort.pid
            wait_until(lambda pid=pid: os.sched_getscheduler(pid) == os.SCHED_IDLE)  # type: ignore[misc]
            assert state(pid) != "T"
            jobs.kill("best_effort")
            jobs.begin_best_effort()


def nothing_is_left(jobs: Jobs) -> None:
    jobs.end()
    wait_until(lambda: not processes.is_alive(jobs.guardian, None), FORGOTTEN_S)
    run(jobs.folder, "share", "status")
    assert names(jobs.folder) == {"roster.lock"}
    assert not processes.is_alive(jobs.best_effort.pid, None)


def test_whoever_is_killed_the_others_go_on(jobs: Jobs) -> None:
    rounds(jobs, 3, seed=4)
    nothing_is_left(jobs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_freeze_nobody_and_leave_nothing(jobs: Jobs) -> None:
    rounds(jobs, 100, seed=0)
    nothing_is_left(jobs)


@pytest.mark.slow
def test_a_job_killed_while_it_takes_its_place_leaves_nothing(tmp_path: Path) -> None:
    """At random moments of its start, guardian's included."""
    draw = random.Random(1)
    (tmp_path / "job.py").write_text("import time; time.sleep(60)")
    command = [sys.executable, "-m", "remora", "run", *STOP, "job.py"]
    for _ in range(20):
        job = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path))
        time.sleep(draw.uniform(0.2, 1.2))
        job.kill()
        job.wait()
        pid = b'"pid":%d,' % job.pid
        wait_until(lambda pid=pid: not any(pid in _command(each) for each in _guardians()))  # type: ignore[misc]
    run(tmp_path, "share", "status")
    assert names(tmp_path) == {"roster.lock"}
