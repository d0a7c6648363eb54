"""`remora run --priority …`: the program is what it is under Python, and so is all it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.share.system.jobs import environment, names, run, start, wait_until

LOADER = """
    import os, threading, torch
    from torch.utils.data import DataLoader, Dataset

    class Data(Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return os.sched_getscheduler(0)

    if __name__ == "__main__":
        torch.set_num_threads(3)
        torch.randn(700, 700) @ torch.randn(700, 700)
        loader = DataLoader(Data(), num_workers=2, multiprocessing_context="{how}")
        found = {{int(each) for each in loader}}
        found |= {{os.sched_getscheduler(int(each)) for each in os.listdir("/proc/self/task")}}
        print(found, len(os.listdir("/proc/self/task")) > 2, os.environ["OMP_WAIT_POLICY"])
"""
ENDINGS = {
    "exits": "import sys; print(sys.argv, __name__); sys.exit(7)",
    "raises": "def f(): return 1 / 0\nf()",
    "is_killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "is_interrupted": "raise KeyboardInterrupt",
    "waits_for_children": textwrap.dedent("""
        import os, threading
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("none", threading.active_count())
    """),
    "forks": textwrap.dedent("""
        import os, sys
        child = os.fork()
        if child == 0:
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """),
}
OPTIONS = {
    "high": ("--priority", "high"),
    "idle": ("--priority", "best-effort"),
    "stop": ("--priority", "best-effort", "--share-mechanism", "stop"),
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("code", ENDINGS)
def test_it_prints_and_ends_as_under_python(code: str, options: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(ENDINGS[code])
    python = subprocess.run(
        [sys.executable, "job.py", "x", "--priority"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    ridden = run(tmp_path, "run", *OPTIONS[options], "job.py", "x", "--priority")
    assert (ridden.returncode, ridden.stdout) == (python.returncode, python.stdout)
    assert ridden.stderr == python.stderr
    if code != "is_killed":
        wait_until(lambda: names(tmp_path) == {"roster.lock"}, 5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_threads_and_loader_workers_inherit(how: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(textwrap.dedent(LOADER).format(how=how))
    shown = run(
        tmp_path, "run", "--priority", "best-effort", "job.py", extra={"OMP_NUM_THREADS": ""}
    )
    assert shown.stdout == f"{{{os.SCHED_IDLE}}} True PASSIVE\n", shown.stderr


def test_a_module_runs_too(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "train.py").write_text(
        "import os, sys; print(sys.argv[1:], os.sched_getscheduler(0), __name__)"
    )
    shown = run(tmp_path, "run", "--priority", "best-effort", "-m", "pack.train", "-m", "3")
    assert shown.stdout == f"['-m', '3'] {os.SCHED_IDLE} __main__\n"


@pytest.mark.slow
def test_it_rides_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import torch\n"
        "net = torch.nn.Linear(2, 1)\n"
        "sgd = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for _ in range(3):\n"
        "    net(torch.ones(1, 2)).sum().backward()\n"
        "    sgd.step()\n"
        "print('done')\n"
    )
    options = ("--priority", "best-effort", "--checkpoint", "saved", "--every", "1", "--observe")
    shown = run(tmp_path, "run", *options, "job.py")
    assert (shown.returncode, shown.stdout) == (0, "done\n"), shown.stderr
    assert "steps      3 of the optimizer" in shown.stderr
    assert (tmp_path / "saved").is_dir()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--priority", "hihg"), "unknown priority 'hihg' (did you mean 'high'?); choose from: "),
        (
            ("--priority", "best-effort", "--share-mechanism", "stopp"),
            "unknown mechanism 'stopp' (did you mean 'stop'?); choose from: cgroup, gate, idle, ",
        ),
        (("--share-mechanism", "idle"), "the job has no priority; add --priority high or"),
        (("--exclusive",), "the job has no priority; add --priority high or best-effort"),
        (("--priority", "high", "--share-threads", "0"), "choose 1 or more threads in each pool"),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_runs(
    options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text("print('ran')")
    shown = run(tmp_path, "run", *options, "job.py")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert said in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_a_second_high_priority_job_where_one_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "second.py").write_text("print('ran')")
    code = "import time; print('ready', flush=True); time.sleep(60)"
    first = start(tmp_path, code, options=("--priority", "high", "--exclusive"))
    try:
        second = run(tmp_path, "run", "--priority", "high", "second.py")
        assert (second.returncode, second.stdout) == (2, "")
        assert f"(process {first.pid})" in second.stderr
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert run(tmp_path, "run", "--priority", "high", "second.py").stdout == "ran\n"
    finally:
        first.kill()
        first.communicate()
