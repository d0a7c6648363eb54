"""All that a run computes, told apart bit for bit."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy
import torch

from remora.core.tensors import fingerprint
from remora.tap.job import Job
from remora.tap.service import Service
from remora.workloads import registry
from remora.workloads.contract import Session

CPU = torch.device("cpu")
SEED = 7


class Numbers(NamedTuple):
    """What a session's steps gave, what it holds after them, and where random numbers are then."""

    outcomes: list[str]
    held: dict[str, str]
    random: list[str]


def numbers_of(name: str, steps: int, service: Service | None = None) -> Numbers:
    """Of the workload ``name`` at its quick scale, ``service`` riding along from its building on.

    Neither the model nor the data are built from the generators that are compared.
    """
    torch.manual_seed(SEED)
    numpy.random.seed(SEED)
    random.seed(SEED)
    with riding(service):
        session = registry.get(name).build("quick", CPU, seed=SEED)
        outcomes = [session.step().digest for _ in range(steps)]
    numbers = Numbers(outcomes, _held(session), _random())
    session.close()
    return numbers


@contextmanager
def riding(service: Service | None) -> Iterator[None]:
    """The service is attached, as it is to a script; what it fails in is raised."""
    job = Job(strict=True, stderr=io.StringIO())
    try:
        if service is not None:
            job.attach(service)
        yield
        job.finish(0)
    finally:
        job.detach_all()


def _held(session: Session) -> dict[str, str]:
    named: list[tuple[str, torch.Tensor]] = [
        *session.model.named_parameters(),
        *session.model.named_buffers(),
    ]
    for name, optimizer in session.optimizers.items():
        for index, state in enumerate(optimizer.state.values()):
            named += [
                (f"{name}.{index}.{key}", value)
                for key, value in state.items()
                if isinstance(value, torch.Tensor)
            ]
    return {name: fingerprint(tensor) for name, tensor in named}


def _random() -> list[str]:
    of_numpy = numpy.random.get_state()
    return [fingerprint(torch.get_rng_state()), str(of_numpy), str(random.getstate())]
