"""``remora.check.watch`` in a program: what it does about a violation is the user's choice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import remora
from remora.check.invariants import Header, Invariant, Invariants, write_invariants
from remora.check.relations.cover import Cover
from remora.check.report import CheckReport, Violation
from remora.core.errors import InvariantsUnusable, InvariantViolated

ZERO, BACKWARD = "torch.optim.Optimizer.zero_grad", "torch.Tensor.backward"
RULE = Invariant(claim=Cover(ZERO, BACKWARD), support=9)
UNKNOWN = Invariant(claim=Cover("torch.no_such_function", BACKWARD), support=9)


@pytest.fixture
def invariants(tmp_path: Path) -> Path:
    path = tmp_path / "healthy.inv"
    write_invariants(path, Invariants(header=Header(), invariants=(RULE, UNKNOWN)))
    return path


def train(steps: int, *, clear_until: int = 99) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        if step < clear_until:
            optimizer.zero_grad()
        model(torch.ones(3, 4)).sum().backward()
        optimizer.step()


def test_a_violation_is_said_once_and_counted(
    invariants: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with remora.check.watch(invariants, report=tmp_path / "found.json") as service:
        train(6, clear_until=3)

    said = capsys.readouterr().err
    assert said.count("an invariant does not hold") == 1
    assert "step 3: an invariant does not hold" in said
    assert f"{Path(__file__).name}:" in said
    report = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=CheckReport)
    [found] = report.violations
    assert (found.step, found.last_step, found.count) == (3, 5, 3)
    assert report.not_watched.keys() == {"torch.no_such_function"}
    assert service.report() == report


def test_a_healthy_loop_says_one_line(invariants: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with remora.check.watch(invariants):
        train(4)

    said = capsys.readouterr().err
    assert "violated" not in said or "0 violated" in said


def test_it_is_raised_out_of_the_call_that_showed_it(invariants: Path, tmp_path: Path) -> None:
    bare = torch.Tensor.backward
    with (
        pytest.raises(InvariantViolated, match=r"step 2: .*"),
        remora.check.watch(invariants, on_violation="raise", report=tmp_path / "found.json"),
    ):
        train(6, clear_until=2)

    assert torch.Tensor.backward is bare
    assert (tmp_path / "found.json").exists()


def test_a_function_is_handed_the_violation(invariants: Path) -> None:
    handed: list[Violation] = []
    with remora.check.watch(invariants, on_violation=handed.append):
        train(5, clear_until=1)

    assert [one.step for one in handed] == [1]


def test_a_function_that_raises_does_not_end_the_program(
    invariants: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with remora.check.watch(invariants, on_violation=lambda _: 1 / 0) as service:
        train(5, clear_until=1)

    said = capsys.readouterr().err
    assert "on_violation raised ZeroDivisionError" in said
    assert "step 1: an invariant does not hold" in said
    assert service.report().violations[0].count == 4


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InvariantsUnusable, match=r"gone\.inv"),
        remora.check.watch(tmp_path / "gone.inv"),
    ):
        pass
