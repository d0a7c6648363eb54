"""What is read of processes is what they do; without /proc nothing is known, and nothing raises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from remora.share.system import groups, processes


def test_cpu_seconds_are_those_of_the_whole_family() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    job = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 20
        while (processes.cpu_s(job.pid) or 0) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        own = processes.stat(job.pid)
        assert own is not None
        assert own.cpu_s < 0.3 <= (processes.cpu_s(job.pid) or 0)  # the child's, not yet reaped
        assert len(processes.descendants(job.pid)) == 1
    finally:
        for pid in (*processes.descendants(job.pid), job.pid):
            os.kill(pid, signal.SIGKILL)
        job.wait()


def test_a_later_process_of_the_same_number_is_another() -> None:
    own = processes.stat(os.getpid())
    assert own is not None
    assert processes.is_alive(os.getpid(), own.started_ticks)
    assert not processes.is_alive(os.getpid(), own.started_ticks - 1)


def test_a_dead_process_that_nobody_has_waited_for_is_not_alive() -> None:
    job = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 20
    while processes.is_alive(job.pid, None) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes.is_alive(job.pid, None)
    job.wait()


def test_a_name_with_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    fields = ["S", "3", *["0"] * 9, "100", "50", "0", "0", *["0"] * 4, "777", "0"]
    (folder / "stat").write_text(f"7 (a) b) (c) {' '.join(fields)}")
    ticks = os.sysconf("SC_CLK_TCK")
    assert processes.stat(7, tmp_path) == processes.Stat("S", 3, 777, 150 / ticks)


def test_without_proc_little_is_known_and_nothing_raises(tmp_path: Path) -> None:
    nowhere = tmp_path / "proc"
    assert processes.stat(os.getpid(), nowhere) is None
    assert processes.cpu_s(os.getpid(), nowhere) is None
    assert processes.waits(os.getpid(), nowhere) is None
    assert processes.descendants(os.getpid(), nowhere) == []
    assert threading.get_native_id() in processes.threads(os.getpid(), nowhere)
    assert processes.is_alive(os.getpid(), 1, nowhere)
    assert not processes.is_alive(2**22 + 1, None, nowhere)
    assert groups.scheduling_group(os.getpid(), nowhere) is None
    assert groups.session_nice(nowhere) is None


def test_sessions_are_groups_where_there_is_no_control_group_for_the_cpu(tmp_path: Path) -> None:
    folder = tmp_path / "5"
    folder.mkdir()
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/sched_autogroup_enabled").write_text("1\n")
    (folder / "autogroup").write_text("/autogroup-464 nice 0\n")
    (folder / "cgroup").write_text("3:cpuset:/\n1:cpu,cpuacct:/\n0::/\n")
    assert groups.scheduling_group(5, tmp_path) == "/autogroup-464"
    assert not groups.gives_way(5, tmp_path)
    (folder / "autogroup").write_text("/autogroup-464 nice 19\n")
    assert groups.gives_way(5, tmp_path)
    (folder / "cgroup").write_text("1:cpu,cpuacct:/docker/ab\n0::/\n")
    assert groups.scheduling_group(5, tmp_path) == "/docker/ab"
