"""Learning in a running job: what the file says at the end, on the way, and after a kill."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from tests.check.stories import Story, Told, learned

from remora.check import learning
from remora.check.calls import OPTIMIZER_STEP
from remora.check.invariants import (
    Header,
    Invariant,
    Invariants,
    Source,
    read_invariants,
    write_invariants,
)
from remora.check.learner import InvariantLearner
from remora.check.learning import Learning
from remora.check.relations.contains import Contains
from remora.check.relations.range import Range
from remora.check.services import LearnService
from remora.core.errors import InvariantsUnusable
from remora.tap.job import Job

Steps = Sequence[Sequence[Told | str]]
HEALTHY: Steps = [[Told("forward", ["linear", "relu"]), "step"]] * 5
NO_RELU: Steps = [[Told("forward", ["linear"]), "step"]] * 5
WRONG = Invariant(claim=Contains("forward", "missing"), support=5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def learn(path: Path, steps: Steps, **settings: object) -> list[str]:
    """One run that learns into ``path``; what it says."""
    said: list[str] = []
    with closing(Learning(path, "train.py", said.append, **settings)) as sink:  # type: ignore[arg-type]
        story = Story(sink)
        for step in steps:
            story.step(*step)
        sink.finish()
    return said


def words(path: Path) -> set[str]:
    return {one.words() for one in read_invariants(path).invariants}


def test_the_file_says_what_a_learner_learns(tmp_path: Path) -> None:
    said = learn(tmp_path / "f.inv", HEALTHY)

    found = read_invariants(tmp_path / "f.inv")
    assert list(found.invariants) == learned(HEALTHY)
    assert len(found.invariants) == 2
    [source] = found.header.sources
    assert (source.program, source.steps, source.calls["linear"]) == ("train.py", 5, 5)
    assert said == [f"{len(found.invariants)} invariants of 5 steps in {tmp_path / 'f.inv'}"]


def test_what_does_not_hold_in_its_own_run_is_dropped_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = InvariantLearner._of
    monkeypatch.setattr(InvariantLearner, "_of", lambda *given: [WRONG, *real(*given)])
    said = learn(tmp_path / "f.inv", HEALTHY)

    assert "forward calls missing" not in words(tmp_path / "f.inv")
    assert "forward calls linear" in words(tmp_path / "f.inv")
    assert said[0] == (
        f"dropped [{WRONG.name}] forward calls missing: "
        "it does not hold in step 0 of this run: no call of missing"
    )


def test_of_a_long_run_the_beginning_is_gone_through_again(tmp_path: Path) -> None:
    said = learn(tmp_path / "f.inv", list(HEALTHY) * 20, most_bytes=3_000)

    assert said[0].startswith("the run is long: what was learned was tried again on its first ")
    assert read_invariants(tmp_path / "f.inv").header.sources[0].steps == 100


# ---------------------------------------------------------------- into a file that is there


def test_what_the_file_said_and_this_run_breaks_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "f.inv"
    learn(path, HEALTHY)
    said = learn(path, NO_RELU)

    assert any(
        "forward calls relu: it does not hold in step 0 of this run: no call of relu" in line
        for line in said
    )
    assert "forward calls linear" in words(path)
    assert "forward calls relu" not in words(path)
    assert said[-1].endswith(f"of 10 steps of 2 runs in {path}")


def test_bounds_that_this_run_goes_beyond_become_wider(tmp_path: Path) -> None:
    path = tmp_path / "f.inv"
    learn(path, [[_step_with_norm(1.0), "step"]] * 20)
    said = learn(path, [[_step_with_norm(1000.0), "step"]] * 20)

    [claim] = [one.claim for one in read_invariants(path).invariants if one.relation == "range"]
    assert claim == Range(OPTIMIZER_STEP, "gradient norm", 0.01, 10_000.0)
    assert not any("dropped" in line for line in said)


def _step_with_norm(size: float) -> Told:
    return Told(OPTIMIZER_STEP, inputs={"self.elements": 10}, numbers={"gradient norm": size})


def test_what_this_run_never_came_to_stays(tmp_path: Path) -> None:
    path = tmp_path / "f.inv"
    learn(path, [[Told("evaluate", ["accuracy"])]] * 4)
    learn(path, HEALTHY)

    assert {"evaluate calls accuracy", "forward calls relu"} <= words(path)


def test_what_this_run_does_not_say_but_keeps_to_stays(tmp_path: Path) -> None:
    """Here relu is called by something within forward, which is said instead."""
    path = tmp_path / "f.inv"
    learn(path, HEALTHY)
    learn(path, [[Told("forward", ["linear", Told("block", ["relu"])]), "step"]] * 5)

    assert "forward calls relu" in words(path)


def test_what_earlier_runs_broke_is_not_learned_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.inv"
    learn(path, NO_RELU)
    said = learn(path, HEALTHY)

    assert "forward calls relu" not in words(path)
    assert any(f"{path} calls forward 5 times and does not have it" in line for line in said)


def test_an_empty_file_is_one_that_says_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "f.inv").touch()
    learn(tmp_path / "f.inv", HEALTHY)

    assert "forward calls linear" in words(tmp_path / "f.inv")


def test_a_file_of_something_else_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "f.inv"
    path.write_text("mine\n")
    with pytest.raises(InvariantsUnusable, match="line 1: no file of invariants"):
        learn(path, HEALTHY)
    assert path.read_text() == "mine\n"


# ---------------------------------------------------------------- on the way


def test_what_has_been_learned_is_written_every_so_often(tmp_path: Path) -> None:
    path, clock = tmp_path / "f.inv", Clock()
    with closing(Learning(path, "train.py", print, save_every_s=30, clock=clock)) as sink:
        story = Story(sink)
        for _ in range(5):
            story.step(*HEALTHY[0])
        assert not path.exists()
        clock.now = 31
        story.step(*HEALTHY[0])
        halfway = read_invariants(path)
        assert list(halfway.invariants) == learned([HEALTHY[0]] * 6)
        assert halfway.header.sources[0].steps == 6
        clock.now = 60
        story.step(*HEALTHY[0])
        assert steps_in(path) == 6
        clock.now = 61
        story.step(*HEALTHY[0])
        assert steps_in(path) == 8


def test_saving_on_the_way_does_not_change_what_is_learned(tmp_path: Path) -> None:
    learn(tmp_path / "often.inv", HEALTHY, save_every_s=0.0, clock=Clock())
    learn(tmp_path / "once.inv", HEALTHY)

    assert (tmp_path / "often.inv").read_bytes() == (tmp_path / "once.inv").read_bytes()


def test_slow_saving_is_done_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    saved: list[float] = []

    def slow(path: Path, invariants: Invariants) -> None:
        clock.now += 2
        saved.append(clock.now)

    monkeypatch.setattr(learning, "write_invariants", slow)
    path = tmp_path / "f.inv"
    with closing(Learning(path, "train.py", print, save_every_s=30, clock=clock)) as sink:
        story = Story(sink)
        for _ in range(400):
            clock.now += 1
            story.step(*HEALTHY[0])
    assert saved == [32, 134, 236, 338]


def test_a_save_on_the_way_that_fails_is_said_and_tried_again(tmp_path: Path) -> None:
    path, said = tmp_path / "folder" / "f.inv", list[str]()
    (tmp_path / "folder").write_text("in the way")
    with closing(Learning(path, "p", said.append, save_every_s=0.0, clock=Clock())) as sink:
        story = Story(sink)
        story.step(*HEALTHY[0])
        assert len(said) == 1
        assert said[0].endswith("; it is tried again in a while")
        (tmp_path / "folder").unlink()
        story.step(*HEALTHY[0])
        assert path.exists()


def test_of_several_ranks_the_first_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("1", "0"):
        assert not (tmp_path / "f.inv").exists()
        monkeypatch.setenv("RANK", rank)
        job = Job(strict=True)
        job.attach(LearnService(tmp_path / "f.inv", stderr=io.StringIO()))
        job.finish()
    assert (tmp_path / "f.inv").exists()


TRAINING = """
import sys
from pathlib import Path
from remora.check.services import LearnService, RecordService
from remora.tap.launch import run_script

services = [
    LearnService(Path(sys.argv[1]), program="train.py", save_every_s=0.1),
    RecordService(Path(sys.argv[2]), program="train.py"),
]
run_script([sys.argv[3]], services, strict=True)
"""
ENDLESS = """
import torch

net = torch.nn.Linear(4, 1)
sgd = torch.optim.SGD(net.parameters(), lr=0.1)
while True:
    sgd.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    sgd.step()
"""


def test_a_killed_job_leaves_what_it_has_learned_and_recorded(tmp_path: Path) -> None:
    path, trace, script = tmp_path / "f.inv", tmp_path / "trace", tmp_path / "train.py"
    script.write_text(ENDLESS)
    command = [sys.executable, "-c", TRAINING, str(path), str(trace), str(script)]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as job:
        deadline = time.monotonic() + 100
        while not (path.exists() and steps_in(path) > 20) and time.monotonic() < deadline:
            assert job.poll() is None
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)

    found = read_invariants(path)
    assert "torch.Tensor.backward is followed by torch.optim.Optimizer.zero_grad" in "".join(
        words(path)
    )
    assert found.header.sources[0].steps > 20

    from remora.check.offline import check_run, learn_from
    from remora.check.traincheck.reading import Reading

    taught = learn_from([trace])
    assert taught.remarks[0].startswith(f"{trace}: the recorded process was killed")
    assert taught.invariants.header.sources[0].steps > 20
    assert check_run(Reading(found), trace, print)[0].violations == []


def steps_in(path: Path) -> int:
    return sum(source.steps for source in read_invariants(path).header.sources)


def test_a_source_without_steps_is_no_obstacle(tmp_path: Path) -> None:
    """A program that never imports torch."""
    header = Header(sources=(Source(program="p", steps=0),))
    write_invariants(tmp_path / "f.inv", Invariants(header=header, invariants=()))
    assert learn(tmp_path / "f.inv", [])[-1].startswith("0 invariants of 0 steps of 2 runs in ")
