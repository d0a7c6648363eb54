"""``remora run`` from the command line, with services, on real training scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TRAINING = textwrap.dedent("""
    import sys

    def helper(x):
        return x * 2

    class Net:
        pass

    def main():
        import torch
        from torch.nn.functional import dropout
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 1)
        adam = torch.optim.Adam(net.parameters())
        decay = torch.optim.lr_scheduler.StepLR(adam, 2)
        for _ in range(5):
            adam.zero_grad()
            loss = net(dropout(helper(torch.ones(2, 4)), 0.5)).sum()
            loss.backward()
            adam.step()
            decay.step()
        print(f"{loss.item():.6f}", sys.argv[1:])

    if __name__ == "__main__":
        main()
""")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(TRAINING)
    return path


def run(
    where: Path, *arguments: str, command: tuple[str, ...] = ("-m", "remora", "run")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=where, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_observing_changes_no_output_and_tells_all(script: Path) -> None:
    plain = run(script.parent, "train.py", "--watch", "x", command=())
    watched = ["torch.nn.functional.dropout", "__main__.helper", "torch.optim.Adam.step"]
    options = [part for name in watched for part in ("--watch", name)]
    ridden = run(script.parent, *options, "--observe-json", "seen.json", "train.py", "--watch", "x")
    seen = json.loads((script.parent / "seen.json").read_text())

    assert (ridden.returncode, ridden.stdout) == (plain.returncode, plain.stdout)
    assert plain.stdout.endswith("['--watch', 'x']\n")
    assert seen["steps"] == 5
    assert {name: calls["count"] for name, calls in seen["calls"].items()} == dict.fromkeys(
        watched, 5
    )
    assert [(m["name"], m["parameters"], m["trained_by"]) for m in seen["models"]] == [
        ("net", 5, ["adam"])
    ]
    assert seen["schedulers"] == [{"name": "decay", "kind": "StepLR", "acts_on": ["adam"]}]
    assert "steps      5 of the optimizer" in ridden.stderr


def test_the_script_imports_torch_itself(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import sys; print('torch' in sys.modules)")

    assert run(tmp_path, "--observe", "s.py").stdout == "False\n"


def test_a_script_that_raises_is_still_observed(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("1 / 0\n")
    plain = run(tmp_path, "s.py", command=())
    ridden = run(tmp_path, "--observe", "s.py")

    assert ridden.returncode == plain.returncode == 1
    assert ridden.stderr.startswith(plain.stderr)
    assert "steps      none seen" in ridden.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_services_ride_with_the_parent_only(tmp_path: Path, method: str) -> None:
    (tmp_path / "s.py").write_text(
        "import multiprocessing, os, sys\n"
        "def work(n): return n\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
        "        print(pool.map(work, range(20)))\n"
        "    if os.fork() == 0: sys.exit(0)\n"
        "    os.wait()\n"
        "    work(1)\n"
    )
    ridden = run(tmp_path, "--watch", "__main__.work", "s.py")

    assert ridden.returncode == 0
    assert ridden.stderr.count("remora: observed") == 1
    assert "__main__.work: 1," in ridden.stderr


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def work(): ...\nwork()\nwork()\n", 2),
        ("def main(): ...\nwork = main\nwork()\n", 1),
        ("try:\n    def work(): ...\nfinally:\n    pass\nwork()\n", 1),
        ("if True:\n    work = lambda: 1\n    work()\nwork()\n", 2),
        ("class work:\n    def inner(self): ...\nwork().inner()\n", 1),
        ("from helper_module import work\nwork()\n", 1),
        ("for n in range(2):\n    def work(): ...\n    work()\n", 1),
    ],
)
def test_functions_of_the_script_itself(tmp_path: Path, source: str, count: int) -> None:
    (tmp_path / "helper_module.py").write_text("def work(): ...\n")
    (tmp_path / "s.py").write_text(source)
    name = "__main__.work.inner" if "class" in source else "__main__.work"
    ridden = run(tmp_path, "--watch", name, "s.py")

    assert ridden.returncode == 0, ridden.stderr
    assert f"{name}: {count}," in ridden.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("s.py",), "__main__.work: 1,"),
        (("-m", "s"), "__main__.work: never found"),
        (("folder",), "__main__.work: never found"),
    ],
)
def test_a_name_that_runpy_hides_is_said_not_to_be_found(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "s.py", tmp_path / "folder" / "__main__.py"):
        path.write_text("def work(): ...\nwork()\n")

    assert says in run(tmp_path, "--watch", "__main__.work", *arguments).stderr


def test_our_own_entry_point_is_not_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def main(): ...\nmain()\n")

    assert "__main__.main: 1," in run(tmp_path, "--watch", "__main__.main", "s.py").stderr


def test_nothing_is_said_where_a_service_was_refused(tmp_path: Path) -> None:
    (tmp_path / "s.py").touch()
    done = run(tmp_path, "--observe", "--watch", "no_such_module_anywhere.f", "s.py")

    assert done.returncode == 2
    assert "observed" not in done.stderr


def test_watching_the_script_itself_keeps_its_traceback_lines(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def work():\n    pass\n\nwork()\nraise ValueError('line 5')\n")
    plain = run(tmp_path, "s.py", command=())
    ridden = run(tmp_path, "--watch", "__main__.work", "s.py")

    assert ridden.stderr.startswith(plain.stderr)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--watch", "no_such_module_anywhere.f"), "unknown module 'no_such_module_anywhere'"),
        (("--watch", "dropout"), "write the module too"),
        (("--watch", "builtins.int"), "is a class; watch 'builtins.int.__init__'"),
        (("--observe-json", "absent/seen.json"), "no folder 'absent'"),
    ],
)
def test_what_the_user_can_mend_is_one_line_before_the_script_runs(
    tmp_path: Path, options: tuple[str, str], says: str
) -> None:
    (tmp_path / "s.py").write_text("print('ran')")
    done = run(tmp_path, *options, "s.py")

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_script_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 2


def test_strict_lets_a_failing_service_take_the_script_down(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import late\nprint('went on')\n")
    (tmp_path / "late.py").write_text("def present(): ...\n")
    lenient = run(tmp_path, "--watch", "late.absent", "s.py")
    strict = run(tmp_path, "--strict", "--watch", "late.absent", "s.py")

    assert (lenient.returncode, lenient.stdout) == (0, "went on\n")
    assert "remora: service 'observe' failed" in lenient.stderr
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "UnknownName" in strict.stderr


@pytest.mark.slow
def test_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        textwrap.dedent("""
        import os, torch, torch.distributed as dist
        dist.init_process_group("gloo")
        net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            sgd.zero_grad(); net(torch.ones(1, 2)).sum().backward(); sgd.step()
        line = f"rank {dist.get_rank()} of {dist.get_world_size()} {__name__}\\n"
        os.write(1, line.encode())  # in one piece: the two processes share the pipe
        dist.destroy_process_group()
    """)
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run(tmp_path, "s.py", command=(*launcher, "-m", "remora", "run", "--observe"))

    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert done.stderr.count(f"remora: observed (rank {rank})\n") == 1
        assert done.stdout.count(f"rank {rank} of 2 __main__") == 1
    assert done.stderr.count("steps      3 of the optimizer") == 2
    assert "net: Linear in DistributedDataParallel, 3 parameters, trained by sgd" in done.stderr
