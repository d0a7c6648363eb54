"""Learned from a healthy program: each broken twin of it is found at the step it breaks."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.check.training import Program
from torch import nn

from remora.check.report import Violation
from remora.check.services import CheckService, LearnService
from remora.tap.job import Job
from remora.tap.service import Service

STEPS, BREAKS = 12, 7


def program(
    *,
    of: Callable[[nn.Module], nn.Module] = lambda net: net,
    prepare: Callable[[nn.Module, int], object] = lambda net, step: None,
    forgets_zero_grad: bool = False,
) -> Program:
    def run() -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        net[0].requires_grad_(False)
        optimizer = torch.optim.Adadelta(of(net).parameters())
        for step in range(STEPS):
            prepare(net, step)
            if not (forgets_zero_grad and step >= BREAKS):
                optimizer.zero_grad()
            net(torch.randn(3, 4, requires_grad=True)).square().mean().backward()
            optimizer.step()

    return run


def at_the_break(change: Callable[[nn.Module], object]) -> Callable[[nn.Module, int], object]:
    return lambda net, step: change(net) if step == BREAKS else None


def run_with(service: Service, what: Program) -> None:
    job = Job(strict=True, stderr=io.StringIO())
    try:
        job.attach(service)
        what()
        job.finish()
    finally:
        job.detach_all()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("learned") / "healthy.inv"
    run_with(LearnService(path, stderr=io.StringIO()), program())
    return path  # type: ignore[return-value]


def violations(path: Path, what: Program) -> list[Violation]:
    service = CheckService(path, stderr=io.StringIO())
    run_with(service, what)
    return service.findings.violations


def test_a_healthy_program_violates_nothing(healthy: Path) -> None:
    assert violations(healthy, program()) == []


@pytest.mark.parametrize(
    ("twin", "step", "expected", "seen"),
    [
        (
            program(of=copy.deepcopy),
            0,
            "torch.optim.Optimizer.step changes some parameter",
            "net.0.weight, net.0.bias, net.2.weight and 1 more are unchanged",
        ),
        (
            program(prepare=lambda net, step: net.requires_grad_(False)),
            0,
            "torch.optim.Optimizer.step changes some parameter",
            "net.0.weight, net.0.bias, net.2.weight and 1 more are unchanged",
        ),
        (
            program(prepare=at_the_break(lambda net: net.requires_grad_(True))),
            BREAKS,
            "torch.optim.Optimizer.step keeps every parameter of net.0",
            "net.0.weight, net.0.bias are changed",
        ),
        (
            program(forgets_zero_grad=True),
            BREAKS,
            "torch.Tensor.backward is called only after torch.optim.Optimizer.zero_grad or "
            "torch.nn.Module.zero_grad, each time anew",
            "no call of torch.optim.Optimizer.zero_grad or torch.nn.Module.zero_grad since the "
            "last call of torch.Tensor.backward",
        ),
    ],
    ids=["optimizer of a copy", "all frozen", "thawed", "no zero_grad"],
)
def test_a_broken_twin_is_found_at_the_step_it_breaks(
    healthy: Path, twin: Program, step: int, expected: str, seen: str
) -> None:
    found = violations(healthy, twin)

    assert {one.step for one in found} <= {step, step + 1}
    [one] = [one for one in found if one.expected == expected]
    assert (one.step, one.seen) == (step, seen)
