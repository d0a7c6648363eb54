"""Programs that end badly or get in our way: exit code and output stay, and so does a file."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest
from tests.cli.shell import run

from remora.check.invariants import (
    Header,
    Invariant,
    Invariants,
    read_invariants,
    write_invariants,
)
from remora.check.offline import learn_from
from remora.check.relations.cover import Cover

pytestmark = pytest.mark.slow

TRAIN = textwrap.dedent("""
    import os, signal, sys, threading
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    adam = torch.optim.Adam(net.parameters())

    def train(steps=5, net=net, adam=adam):
        for _ in range(steps):
            adam.zero_grad()
            net(torch.ones(2, 4)).sum().backward()
            adam.step()

    def train_its_own():  # threads that share a model crash torch itself, ridden or not
        own = torch.nn.Linear(4, 3)
        train(net=own, adam=torch.optim.Adam(own.parameters()))

""")
ENDINGS = {
    "crashes": ("train(); 1 / 0", 1),
    "leaves": ("train(); sys.exit(7)", 7),
    "leaves at once": ("train(); os._exit(5)", 5),
    "interrupts": ("train(); os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(9)",
                   -signal.SIGINT),
    "is killed": ("train(); os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "forks": ("child = os.fork()\ntrain()\n"
              "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\nos._exit(3)",
              3),
    "threads": ("t = [threading.Thread(target=train_its_own) for _ in range(3)]\n"
                "[one.start() for one in t]; [one.join() for one in t]; sys.exit(4)", 4),
    "executes": ("exec(compile('train()', '<made>', 'exec'), globals()); sys.exit(6)", 6),
    "takes stderr": ("sys.stderr = None\ntrain(); sys.exit(2)", 2),
    "breaks stderr": ("class Bad:\n    def write(self, text): raise RuntimeError('no')\n"
                      "    def flush(self): pass\nsys.stderr = Bad()\ntrain(); sys.exit(8)", 8),
    "patches before": ("old = torch.Tensor.backward\n"
                       "torch.Tensor.backward = lambda *a, **k: old(*a, **k)\ntrain(); sys.exit(9)",
                       9),
    "patches and puts back": ("old = torch.Tensor.backward\ntorch.Tensor.backward = None\n"
                              "torch.Tensor.backward = old\ntrain(); sys.exit(9)", 9),
}  # fmt: skip
RULE = Invariant(claim=Cover("torch.optim.Optimizer.zero_grad", "torch.Tensor.backward"), support=9)


@pytest.mark.parametrize("name", ENDINGS)
def test_the_exit_code_is_the_programs(name: str, tmp_path: Path) -> None:
    ending, code = ENDINGS[name]
    (tmp_path / "job.py").write_text(TRAIN + ending + "\n")
    write_invariants(tmp_path / "h.inv", Invariants(header=Header(), invariants=(RULE,)))

    ridden = run(
        tmp_path, "run", "--check", "h.inv", "--learn", "new.inv", "--record", "trace",
        "--report", "r.json", "job.py",
    )  # fmt: skip

    assert ridden.returncode == code, ridden.stderr
    assert "remora: this is a defect" not in ridden.stderr
    assert "was detached" not in ridden.stderr
    assert "an invariant does not hold" not in ridden.stderr
    if code > 0 and name != "leaves at once":
        assert read_invariants(tmp_path / "new.inv").invariants
        assert (tmp_path / "r.json").exists()
    assert learn_from([tmp_path / "trace"]).invariants.invariants


@pytest.mark.parametrize(("options", "code", "shown"), [
    (("--check", "h.inv", "--report", "folder"), 2, ""),
    (("--check", "h.inv", "--report", "folder.json"), 3, "done\n"),
    (("--learn", "folder.json"), 2, ""),
])  # fmt: skip
def test_what_cannot_be_written_is_said_in_a_line(
    options: tuple[str, ...], code: int, shown: str, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(TRAIN + "train(); print('done'); sys.exit(3)\n")
    write_invariants(tmp_path / "h.inv", Invariants(header=Header(), invariants=(RULE,)))
    (tmp_path / "folder.json").mkdir()  # cannot be replaced by a file

    ridden = run(tmp_path, "run", *options, "job.py")
    assert (ridden.returncode, ridden.stdout) == (code, shown)
    assert "remora" in ridden.stderr
    assert "Traceback" not in ridden.stderr
    assert list((tmp_path / "folder.json").iterdir()) == []
