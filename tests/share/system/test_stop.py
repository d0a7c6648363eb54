"""Stop and continue on real jobs: stopped while others serve, and never for good."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.share.system.jobs import SERVE, SPIN, names, run, start, state, wait_until

from remora.share.system import processes

STOP = ("--priority", "best-effort", "--share-mechanism", "stop")
HIGH = ("--priority", "high")


class Pair:
    """A job that serves with pauses and one that computes, with a guardian."""

    def __init__(self, folder: Path, gap_s: float = 0.15) -> None:
        self.best_effort = start(folder, SPIN, "60", options=STOP)
        [self.guardian] = guardians()
        self.high = start(folder, SERVE, "60", str(gap_s), options=HIGH)

    def wait_until_stopped(self) -> None:
        wait_until(lambda: state(self.best_effort.pid) == "T")

    def end(self) -> None:
        for job in (self.best_effort, self.high):
            job.kill()
            job.communicate()


def guardians() -> list[int]:
    """Of this user's jobs that began in this test's folder."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                words = (each / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(b"share.system.guardian" in word for word in words) and _is_ours(words):
                found.append(int(each.name))
    return found


def _is_ours(words: list[bytes]) -> bool:
    return any(word.startswith(b'{"pid"') and str(_folder).encode() in word for word in words)


_folder = Path()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    global _folder
    _folder = tmp_path
    return tmp_path


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    made = Pair(folder)
    yield made
    made.end()
    wait_until(lambda: not guardians())


@pytest.mark.slow
def test_it_is_stopped_while_the_other_serves_and_runs_between(pair: Pair, folder: Path) -> None:
    pair.wait_until_stopped()
    wait_until(lambda: state(pair.best_effort.pid) != "T")
    seen = []
    for _ in range(100):
        time.sleep(0.02)
        seen.append(state(pair.best_effort.pid) == "T")
    assert 10 < sum(seen) < 90  # half the time, on a machine that may be busy
    found = json.loads(run(folder, "share", "status", "--json").stdout)
    assert {each["state"] for each in found["jobs"]} <= {"runs", "stopped", "waits"}


@pytest.mark.slow
def test_it_goes_on_within_a_second_once_the_other_is_killed(pair: Pair) -> None:
    pair.wait_until_stopped()
    pair.high.kill()
    assert wait_until(lambda: state(pair.best_effort.pid) != "T") < 1
    for _ in range(20):
        time.sleep(0.02)
        assert state(pair.best_effort.pid) != "T"


def test_it_goes_on_within_a_second_once_its_guardian_is_killed(pair: Pair) -> None:
    pair.wait_until_stopped()
    os.kill(pair.guardian, signal.SIGKILL)
    assert wait_until(lambda: state(pair.best_effort.pid) != "T") < 1
    wait_until(lambda: os.sched_getscheduler(pair.best_effort.pid) == os.SCHED_IDLE)
    pair.best_effort.kill()
    _, said = pair.best_effort.communicate()
    assert said.startswith("remora: share: stop: the guardian is gone; idle instead\n")


@pytest.mark.slow
def test_killed_it_leaves_nothing(pair: Pair, folder: Path) -> None:
    pair.wait_until_stopped()
    pair.best_effort.kill()
    pair.best_effort.wait()
    assert wait_until(lambda: not guardians()) < 1
    pair.high.kill()
    pair.high.wait()
    run(folder, "share", "status")
    assert names(folder) == {"roster.lock"}


@pytest.mark.slow
def test_the_other_stopped_by_its_user_in_the_middle_keeps_nobody(pair: Pair) -> None:
    pair.wait_until_stopped()
    pair.high.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(pair.best_effort.pid) != "T", 3)


@pytest.mark.slow
def test_one_that_its_user_has_stopped_is_not_continued(pair: Pair) -> None:
    wait_until(lambda: state(pair.best_effort.pid) != "T")
    pair.high.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(pair.best_effort.pid) != "T", 3)
    time.sleep(0.5)
    pair.best_effort.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(pair.best_effort.pid) == "T")
    pair.high.send_signal(signal.SIGCONT)
    time.sleep(1)
    assert state(pair.best_effort.pid) == "T"
    pair.best_effort.send_signal(signal.SIGCONT)
    wait_until(lambda: state(pair.best_effort.pid) != "T")


CHILDREN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.slow
def test_its_children_are_stopped_with_it_and_continued_whoever_is_killed(folder: Path) -> None:
    for victims in (["job"], ["guardian"], ["job", "guardian"]):
        job = start(folder, CHILDREN, "60", options=STOP)
        [guardian], [child] = guardians(), processes.descendants(job.pid)
        high = start(folder, SERVE, "60", "0.3", options=HIGH)
        try:
            wait_until(lambda child=child: state(child) == "T")  # type: ignore[misc]
            for victim in victims:
                os.kill(job.pid if victim == "job" else guardian, signal.SIGKILL)
            if len(victims) == 2:
                job.wait()
                run(folder, "share", "status")  # whoever comes next
            assert wait_until(lambda child=child: state(child) != "T") < 1  # type: ignore[misc]
        finally:
            for pid in (job.pid, high.pid, child):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            job.communicate()
            high.communicate()
    wait_until(lambda: not guardians())


@pytest.mark.slow
def test_the_other_has_no_hook_until_a_guardian_comes_nor_after_it_has_gone(folder: Path) -> None:
    code = (
        "import sys, time, torch\n"
        "from torch.nn.modules import module\n"
        "model = torch.nn.Linear(1, 1)\n"
        "def hooks(): return len(module._global_forward_pre_hooks) + len(model._forward_hooks)\n"
        "model(torch.zeros(1)); print('ready', flush=True); print(hooks(), flush=True)\n"
        "until = time.monotonic() + 60\n"
        "def turn(wanted):\n"
        "    while (hooks() > 0) != wanted and time.monotonic() < until:\n"
        "        model(torch.zeros(1)); time.sleep(0.01)\n"
        "    print(hooks() > 0, flush=True)\n"
        "turn(True); turn(False)\n"
    )
    high = start(folder, code, options=HIGH)
    assert high.stdout is not None
    assert high.stdout.readline() == "0\n"
    job = start(folder, SPIN, "60", options=STOP)
    assert high.stdout.readline() == "True\n"
    job.kill()
    job.communicate()
    assert high.communicate(timeout=70)[0] == "False\n"
    assert high.returncode == 0


@pytest.mark.slow
def test_a_forward_that_raises_keeps_nobody_for_longer_than_stated(folder: Path) -> None:
    code = (
        "import time, torch\n"
        "class Fails(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        time.sleep(0.5)\n"
        "        raise RuntimeError('no')\n"
        "model, fine = Fails(), torch.nn.Identity()\n"
        "print('ready', flush=True)\n"
        "for n in range(600):\n"
        "    fine(torch.zeros(1)); time.sleep(0.01)\n"
        "    if n % 20 == 0:\n"
        "        try: model(torch.zeros(1))\n"
        "        except RuntimeError: time.sleep(2)\n"
    )
    options = ("--priority", "best-effort", "--share-mechanism", "stop:longest-stop=1s")
    job = start(folder, SPIN, "60", options=options)
    high = start(folder, code, options=HIGH)
    try:
        wait_until(lambda: state(job.pid) == "T")
        wait_until(lambda: state(job.pid) != "T", 3)
    finally:
        for each in (job, high):
            each.kill()
            each.communicate()


@pytest.mark.slow
def test_ctrl_c_reaches_the_job_and_not_its_guardian_first(pair: Pair) -> None:
    pair.wait_until_stopped()
    pair.best_effort.send_signal(signal.SIGINT)  # of a stopped job: taken when it is continued
    assert pair.best_effort.wait(timeout=20) == -signal.SIGINT
    wait_until(lambda: not guardians())
