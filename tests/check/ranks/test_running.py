"""Jobs of two real ranks: learned from, checked, and what becomes of them when a rank dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from remora.check.invariants import (
    Header,
    Invariant,
    Invariants,
    read_invariants,
    write_invariants,
)
from remora.check.relations.agreement import Agreement
from remora.check.relations.consistent import RANKS, Consistent
from remora.check.relations.registry import AnyClaim
from remora.check.report import CheckReport

TRAINING = """
import os, sys, time, torch
from datetime import timedelta
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

fault = sys.argv[1] if len(sys.argv) > 1 else ""
distributed.init_process_group("gloo", timeout=timedelta(seconds=10))
rank = distributed.get_rank()
torch.manual_seed(0)
inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
model = DistributedDataParallel(inner)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
torch.manual_seed(rank + 1)
for step in range(10):
    optimizer.zero_grad()
    net = inner if fault == "apart" else model
    nn.functional.cross_entropy(net(torch.randn(16, 8)), torch.randint(4, (16,))).backward()
    if fault == "lost" and step == 5 and rank == 1:
        inner[0].weight.grad.zero_()
    if fault == "shape":
        counted = torch.zeros(3 if step < 5 or rank == 0 else 2)
        distributed.all_reduce(counted)
    optimizer.step()
print(f"rank {rank} is done")
distributed.destroy_process_group()
"""
"""An unmodified script that averages gradients; what it is told to do wrong, it does."""
ALONE = """
import os, signal, sys, time, torch
from torch import distributed, nn

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.manual_seed(0)
net = nn.Linear(4, 4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
distributed.barrier()
for step in range(8):
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    if rank == int(sys.argv[1]) and step == 3:
        os.kill(os.getpid(), int(sys.argv[2]))
    if rank != int(sys.argv[1]) and step == 3:
        time.sleep(2)
print(f"rank {rank} is done")
"""
"""Ranks that need nothing of each other while they train; one is sent a signal by itself."""


def of_ranks(*names: str) -> Invariants:
    claims: list[AnyClaim] = [Consistent(name, name, across=RANKS) for name in names]
    claims.append(Agreement("torch.distributed.all_reduce", "tensor.shape"))
    return Invariants(
        header=Header(),
        invariants=tuple(Invariant(claim=claim, support=9) for claim in claims),
    )


def start(options: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Two ranks, as a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "remora", "run", *options],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def ended(ranks: Sequence[subprocess.Popen[str]], timeout_s: float = 240) -> list[str]:
    """What each rank has said."""
    try:
        return [rank.communicate(timeout=timeout_s)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def torchrun(options: Sequence[str]) -> str:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [sys.executable, *command, "remora", "run", *options],
        check=True, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.stderr


def report_at(path: Path) -> CheckReport:
    return msgspec.json.decode(path.read_bytes(), type=CheckReport)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(TRAINING)
    return str(path)


@pytest.mark.slow
def test_two_ranks_find_each_other_and_the_step_at_which_they_come_apart(
    tmp_path: Path, script: str
) -> None:
    write_invariants(tmp_path / "h.inv", of_ranks("inner", "optimizer"))
    report = tmp_path / "found.json"

    said = "".join(
        ended(start(["--check", str(tmp_path / "h.inv"), "--report", str(report), script, "lost"]))
    )

    assert said.count("remora check: step 5") == said.count("an invariant does not hold") == 2
    assert said.count("is the same on every rank") == 2
    assert said.count("3 invariants over 10 steps: 2 violated, 0 passed, 1 not triggered") == 1
    found = report_at(report)
    assert {(one.step, one.count) for one in found.violations} == {(5, 5)}


@pytest.mark.slow
def test_learn_and_check_under_torchrun(tmp_path: Path, script: str) -> None:
    learned, report = tmp_path / "h.inv", tmp_path / "found.json"
    torchrun(["--learn", str(learned), "--record", str(tmp_path / "run"), script])

    words = {one.words() for one in read_invariants(learned).invariants}
    assert {
        "inner is the same on every rank at the end of a step",
        "optimizer is the same on every rank at the end of a step",
    } <= words
    assert len(read_invariants(learned).header.sources) == 2

    subprocess.run(
        [sys.executable, "-m", "remora", "learn", "--output", str(tmp_path / "again.inv"),
         str(tmp_path / "run")], check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "again.inv").read_bytes() == learned.read_bytes()

    said = torchrun(["--check", str(learned), "--report", str(report), script])
    assert "does not hold" not in said
    found = report_at(report)
    assert (found.violations, found.not_triggered) == ([], [])

    for fault, step in (("apart", 0), ("lost", 5)):
        torchrun(["--check", str(learned), "--report", str(report), script, fault])
        across = [one for one in report_at(report).violations if one.relation == "consistent"]
        assert {one.step for one in across} == {step}


@pytest.mark.slow
def test_another_shape_is_told_before_the_collective_ends_the_job(
    tmp_path: Path, script: str
) -> None:
    """gloo ends a process that is sent more than it has room for."""
    write_invariants(tmp_path / "h.inv", of_ranks("inner"))

    said = "".join(ended(start(["--check", str(tmp_path / "h.inv"), script, "shape"])))

    assert "every rank gives torch.distributed.all_reduce the same tensor.shape" in said
    assert "tensor.shape is (2,) here and (3,) on rank 0" in said or (
        "tensor.shape is (3,) here and (2,) on rank 1" in said
    )


@pytest.mark.slow
def test_raising_ends_the_rank_that_finds_it(tmp_path: Path, script: str) -> None:
    write_invariants(tmp_path / "h.inv", of_ranks("inner"))
    options = ["--check", str(tmp_path / "h.inv"), "--on-violation", "raise", script, "shape"]
    ranks = start(options)

    said = "".join(ended(ranks))

    assert "InvariantViolated" in said or "the same tensor.shape" in said
    assert any(rank.returncode for rank in ranks)


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_a_rank_that_dies_stops_nobody(tmp_path: Path, dying: int) -> None:
    """Rank 0 has the store as well."""
    script = tmp_path / "train.py"
    script.write_text(ALONE)
    write_invariants(tmp_path / "h.inv", of_ranks("net"))
    command = ["--check", str(tmp_path / "h.inv"), str(script), str(dying), str(signal.SIGKILL)]
    begun = time.monotonic()

    said = ended(start(command))

    assert f"rank {1 - dying} is done" in said[1 - dying]
    assert time.monotonic() - begun < 60
    if dying == 0:
        assert said[1].count("ranks are not compared from now on") == 1
    else:
        assert said[0].count("rank 1 did not report; this is without what it found") == 1


@pytest.mark.slow
def test_a_rank_that_stops_stops_nobody(tmp_path: Path) -> None:
    """Its store is asked once, for a bounded time."""
    script = tmp_path / "train.py"
    script.write_text(ALONE)
    write_invariants(tmp_path / "h.inv", of_ranks("net"))
    ranks = start(["--check", str(tmp_path / "h.inv"), str(script), "0", str(signal.SIGSTOP)])
    try:
        said = ranks[1].communicate(timeout=90)[0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()

    assert "rank 1 is done" in said
    assert said.count("does not answer; ranks are not compared from now on") == 1
