"""Learning from a job of several ranks: as it runs, and from what was recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tests.check.training import Program, ride
from torch import nn

from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant, Invariants, read_invariants, write_invariants
from remora.check.learning import Learning
from remora.check.offline import check_run, learn_from, read_for_traces
from remora.check.ranks.kept import KeptTrace
from remora.check.ranks.meeting import Room
from remora.check.tee import Tee
from remora.check.trace.recorder import Recorder

STEPS = 6
Prepare = Callable[[nn.Module, int], object]


class Sharded(nn.Module):
    def __init__(self, rank: int) -> None:
        super().__init__()
        self.whole, self.part = nn.Linear(4, 4), nn.Linear(4, 2)
        torch.manual_seed(rank + 1)
        nn.init.normal_(self.part.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.whole(x))  # type: ignore[no-any-return]


def replica(rank: int, prepare: Prepare = lambda net, step: None) -> Program:
    """One rank of a job; what is whole is kept equal without a word, by setting it anew."""

    def program() -> None:
        torch.manual_seed(0)
        net = Sharded(rank)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(STEPS):
            torch.manual_seed(step)
            optimizer.zero_grad()
            net(torch.randn(3, 4)).square().mean().backward()
            for parameter in net.whole.parameters():
                parameter.grad = torch.randn(parameter.shape)
            prepare(net, step)
            optimizer.step()

    return program


def recorded(folder: Path, *ranks: Program) -> Path:
    folder.mkdir()
    for rank, program in enumerate(ranks):
        file = (folder / f"rank{rank}-pid{100 + rank}.jsonl").open("ab", buffering=0)
        with closing(Recorder(file, program="job", rank=rank)) as recorder:
            ride(recorder, program)
            recorder.run_ended(0)
    return folder


def of_ranks(invariants: Invariants) -> list[Invariant]:
    return [one for one in invariants.invariants if "every rank" in one.words()]


@pytest.mark.slow
def test_what_is_learned_live_is_what_the_recorded_ranks_teach(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    zero = (folder / "rank0-pid100.jsonl").open("ab", buffering=0)
    one = (folder / "rank1-pid101.jsonl").open("ab", buffering=0)
    path = tmp_path / "live.inv"
    with (
        closing(Learning(path, "job", lambda text: None, world=2)) as learning,
        closing(Recorder(zero, program="job")) as recorder,
        closing(KeptTrace(program="job", rank=1)) as kept,
        closing(Recorder(one, program="job", rank=1)) as other,
    ):
        ride(Tee(learning, recorder), replica(0))
        ride(Tee(kept, other), replica(1))
        learning.finish([(1, kept.trace())])
        recorder.run_ended(0)
        other.run_ended(0)

    live, offline = read_invariants(path), learn_from([folder]).invariants

    assert [one.words() for one in of_ranks(live)] == [
        "net.whole is the same on every rank at the end of a step"
    ]
    assert live.invariants == offline.invariants
    assert live.header.sources == offline.header.sources


@pytest.mark.slow
def test_what_one_rank_does_not_do_is_not_learned(tmp_path: Path) -> None:
    def freezes(net: nn.Module, step: int) -> None:
        net.get_parameter("part.weight").grad = None

    both = learn_from([recorded(tmp_path / "both", replica(0), replica(1))]).invariants
    one = learn_from([recorded(tmp_path / "one", replica(0), replica(1, freezes))]).invariants

    changes = "torch.optim.Optimizer.step changes every parameter"
    assert changes in {one.words() for one in both.invariants}
    assert changes not in {one.words() for one in one.invariants}


@pytest.mark.slow
def test_what_the_file_said_before_is_tried_on_every_rank(tmp_path: Path) -> None:
    path, said = tmp_path / "f.inv", list[str]()

    def learn(second: Program) -> None:
        with (
            closing(Learning(path, "job", said.append, world=2)) as learning,
            closing(KeptTrace(program="job", rank=1)) as kept,
        ):
            ride(learning, replica(0))
            ride(kept, second)
            learning.finish([(1, kept.trace())])

    learn(replica(1))
    assert of_ranks(read_invariants(path))
    learn(replica(1, comes_apart(4)))

    assert [one.words() for one in of_ranks(read_invariants(path))] == [
        "net.whole.weight is the same on every rank at the end of a step"
    ]
    assert any(
        "net.whole is the same on every rank at the end of a step: it does not hold in step 4 of "
        "this run: net.whole.bias differs from rank 0's after step 4" in line
        for line in said
    )


def comes_apart(at: int) -> Prepare:
    def prepare(net: nn.Module, step: int) -> None:
        if step == at:
            net.get_parameter("whole.bias").data[0] += 1

    return prepare


@pytest.mark.slow
def test_recorded_ranks_are_checked_against_each_other(tmp_path: Path) -> None:
    learned = learn_from([recorded(tmp_path / "healthy", replica(0), replica(1))]).invariants
    broken = recorded(tmp_path / "broken", replica(0), replica(1, comes_apart(2)), replica(2))
    write_invariants(tmp_path / "h.inv", learned)
    reading, said = read_for_traces(tmp_path / "h.inv"), list[str]()

    report, _ = check_run(reading, broken, said.append)

    [violation] = report.violations
    assert "step 2 on rank 1: an invariant does not hold" in said[0]
    assert violation.seen == "net.whole.bias differs from rank 0's after step 2"
    assert (violation.step, violation.rank, violation.count) == (2, 1, STEPS - 2)
    healthy, _ = check_run(reading, tmp_path / "healthy", said.append)
    assert not healthy.violations
    assert set(report.triggered) == set(healthy.triggered)


@pytest.mark.slow
def test_ranks_that_were_started_anew_are_not_compared(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", replica(0), replica(1))
    (folder / "rank1-pid101.jsonl").rename(folder / "rank0-pid101.jsonl")

    assert of_ranks(learn_from([folder]).invariants) == []


@pytest.mark.slow
def test_a_held_out_job_drops_what_does_not_hold_between_its_ranks(tmp_path: Path) -> None:
    healthy = recorded(tmp_path / "healthy", replica(0), replica(1))
    other = recorded(tmp_path / "other", replica(0), replica(1, comes_apart(3)))

    taught = learn_from([healthy], [other])

    assert of_ranks(taught.invariants) == []
    assert any("differs from rank 0's after step 3" in one.why for one in taught.dropped)


@pytest.mark.parametrize("late", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_ranks_of_a_running_job_find_the_step(tmp_path: Path, late: int) -> None:
    """Each rank a run of its own, one after the other: whichever comes later tells."""
    learned = learn_from([recorded(tmp_path / "healthy", replica(0), replica(1))]).invariants
    findings: list[Finding] = []
    room = Room(2)
    for rank in (1 - late, late):
        checker = Checker(of_ranks(learned), findings.append)
        checker.join(room.seat(rank))
        ride(checker, replica(rank, comes_apart(3) if rank else lambda net, step: None))

    assert findings[0].seen == f"net.whole.bias differs from rank {1 - late}'s after step 3"
    assert {one.step for one in findings} == {3, 4, 5}
