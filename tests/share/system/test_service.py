"""A job takes its place, gives way, and goes on where the system does not let it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.share.system.jobs import SLEEP, SPIN, environment, names, run, start, wait_until

from remora.core.errors import BadValue, PriorityTaken
from remora.share.policies.contract import Priority
from remora.share.system.mechanisms.registry import Choice
from remora.share.system.roster import Roster
from remora.share.system.service import Share
from remora.tap.job import Job

FORBID = """
import ctypes, struct
def forbid(*numbers):
    '''Let these system calls fail with EPERM, as a container's seccomp profile does.'''
    rules = [(0x20, 0, 0, 0)]
    rules += [(0x15, 0, 1, number) if last else (0x15, 0, 1, number) for number, last in ()]
    for number in numbers:
        rules += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]
    rules += [(0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
    kept = ctypes.create_string_buffer(code)
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    program = Program(len(rules), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
"""
SCHED_SETSCHEDULER, SETPRIORITY = 144, 141
SHOW = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
only_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(SHOW)
    return tmp_path


def best_effort(folder: Path, said: io.StringIO, mechanism: str = "none") -> Share:
    return Share(Priority.BEST_EFFORT, Choice(mechanism), folder=folder, stderr=said)


def test_detached_it_is_a_job_like_any_other_again(tmp_path: Path) -> None:
    job, service = Job(strict=True), Share(Priority.HIGH, folder=tmp_path / "r", command=["a", "b"])
    job.attach(service)
    roster = Roster(tmp_path / "r")
    assert [each.script for each in roster.jobs()] == ["a b"]
    job.detach(service)
    assert roster.jobs() == []


def test_ended_it_keeps_its_place_until_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import atexit, os, threading, time\n"
        "def show(): print(os.sched_getscheduler(0), len(os.listdir('remora')))\n"
        "atexit.register(show)\n"
        "threading.Thread(target=lambda: (time.sleep(0.5), show())).start()\n"
    )
    shown = run(tmp_path, "run", "--priority", "best-effort", "job.py")
    assert shown.stdout == f"{os.SCHED_IDLE} 2\n" * 2
    assert names(tmp_path) == {"roster.lock"}


def test_a_second_high_priority_job_does_not_start_where_one_is_allowed(tmp_path: Path) -> None:
    first = Job(strict=True)
    first.attach(Share(Priority.HIGH, exclusive=True, folder=tmp_path, command=["serve.py"]))
    second = Job()
    with pytest.raises(PriorityTaken, match=r"serve.py \(process"):
        second.attach(Share(Priority.HIGH, folder=tmp_path))
    assert second.services == ()
    first.detach_all()


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(BadValue, match="--exclusive is for --priority high"):
        Share(Priority.BEST_EFFORT, exclusive=True)
    with pytest.raises(BadValue, match="a high-priority job gives way to none"):
        Share(Priority.HIGH, Choice("idle"))


@pytest.mark.parametrize("what", ["file", "open"])
def test_without_a_roster_the_job_goes_on_and_says_so(script: Path, what: str) -> None:
    if what == "file":
        (script / "remora").write_text("")
    else:
        (script / "remora").mkdir(mode=0o777)
        (script / "remora").chmod(0o777)
    shown = run(script, "run", "--priority", "best-effort", "job.py")
    assert shown.stdout == f"{os.SCHED_IDLE} {os.nice(0)}\n"
    assert shown.stderr.count("\n") == 1
    assert "the job goes on, and no other sees it" in shown.stderr


def test_stop_without_a_roster_falls_back(script: Path) -> None:
    (script / "remora").write_text("")
    shown = run(script, "run", "--priority", "best-effort", "--share-mechanism", "stop", "job.py")
    assert shown.stdout == f"{os.SCHED_IDLE} {os.nice(0)}\n"
    assert (
        "stop: needs the roster, to hear of high-priority jobs; mend that first; idle instead"
        in (shown.stderr)
    )


def test_without_proc_the_job_gives_way_and_says_nothing(tmp_path: Path) -> None:
    code = (
        "import io, os, sys; from pathlib import Path\n"
        "from remora.tap.job import Job\n"
        "from remora.share.policies.contract import Priority\n"
        "from remora.share.system.roster import Roster\n"
        "from remora.share.system.service import Share\n"
        "where = Path(sys.argv[1])\n"
        "none = Path('/no/proc')\n"
        "Job(strict=True).attach(Share(Priority.BEST_EFFORT, folder=where, proc=none))\n"
        "print(os.sched_getscheduler(0), len(Roster(where, proc=none).jobs()))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (shown.stdout, shown.stderr) == (f"{os.SCHED_IDLE} 1\n", "")


@only_x86
@pytest.mark.parametrize(
    ("forbidden", "printed", "said"),
    [
        ([SCHED_SETSCHEDULER], f"{os.SCHED_OTHER} 19", ["nice instead"]),
        (
            [SCHED_SETSCHEDULER, SETPRIORITY],
            f"{os.SCHED_OTHER} {os.nice(0)}",
            ["nice instead", "none instead"],
        ),
    ],
)
def test_a_container_that_forbids_it_gets_the_next(
    script: Path, forbidden: list[int], printed: str, said: list[str]
) -> None:
    before = f"{FORBID}\nforbid(*{forbidden})"
    shown = run(script, "run", "--priority", "best-effort", "job.py", before=before)
    assert shown.stdout == f"{printed}\n"
    lines = shown.stderr.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == said
    assert lines[0] == (
        "remora: share: SCHED_IDLE: operation not permitted; to have it, let the container's "
        "seccomp profile pass sched_setscheduler (docker: --cap-add SYS_NICE); nice instead"
    )


def test_jobs_of_two_sessions_are_told_that_idle_is_not_enough(tmp_path: Path) -> None:
    """Skipped where the kernel makes no groups of sessions: then idle is enough."""
    from remora.share.system import groups

    if groups.session_nice() is None:
        pytest.skip("sessions are not groups of the scheduler here")
    high = start(tmp_path, SLEEP, "60", options=("--priority", "high"))  # in a session of its own
    try:
        lower = "from remora.share.system import groups; groups.may_raise_again = lambda: False"
        shown = run(tmp_path, "run", "--priority", "best-effort", "-", before=lower)
        assert "are in different groups of the scheduler" in shown.stderr
        assert "echo 19 > /proc/PID/autogroup" in shown.stderr
    finally:
        high.kill()
        high.communicate()


def test_status_shows_what_each_job_got(tmp_path: Path) -> None:
    started = (
        (SLEEP, ("--priority", "high")),
        (SPIN, ("--priority", "best-effort")),
        (SPIN, ("--priority", "best-effort", "--share-mechanism", "nice")),
    )
    jobs = [start(tmp_path, code, "60", options=options) for code, options in started]
    try:
        wait_until(lambda: all(each["cpu_s"] > 0 for each in shown(tmp_path)["jobs"][1:]), 60)
        found = shown(tmp_path)
        assert [each["pid"] for each in found["jobs"]] == [each.pid for each in jobs]
        assert [each["mechanism"] for each in found["jobs"]] == ["none", "idle", "nice"]
        assert found["jobs"][0]["got_of_left"] is None
        assert all(0 < each["got_of_left"] < 1.5 for each in found["jobs"][1:])
        table = run(tmp_path, "share", "status").stdout
        assert table.splitlines()[0].split() == [
            *("pid", "priority", "by", "state", "for", "turnaround", "CPU", "rest", "script"),
        ]
        assert len(table.splitlines()) == 4
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
    assert shown(tmp_path)["jobs"] == []
    assert "no job runs at a priority; start one with" in run(tmp_path, "share", "status").stdout


def shown(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        subprocess.run(
            [sys.executable, "-m", "remora", "share", "status", "--json"],
            env=environment(folder), capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    return found
