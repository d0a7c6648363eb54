"""A small model, a job that complains into a string, and a service made of functions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
import torch
from torch import nn

from remora.tap.job import Job
from remora.tap.service import Service


class Made(Service):
    """A service made of one function that subscribes."""

    name: ClassVar[str] = "made"

    def __init__(self, subscribe: Callable[[Job], object]) -> None:
        self._subscribe = subscribe
        self.detached = 0
        self.finished = 0

    def attach(self, job: Job) -> None:
        self._subscribe(job)

    def detach(self) -> None:
        self.detached += 1

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def make_service() -> type[Made]:
    return Made


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def job(said: io.StringIO) -> Iterator[Job]:
    job = Job(stderr=said)
    yield job
    job.detach_all()


@pytest.fixture
def strict_job(said: io.StringIO) -> Iterator[Job]:
    job = Job(strict=True, stderr=said)
    yield job
    job.detach_all()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.fixture
def step(model: nn.Module) -> Callable[[torch.optim.Optimizer], None]:
    """One training step of ``model`` with the optimizer given."""

    def step(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()

    return step
