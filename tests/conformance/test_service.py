"""The contract of a service, held against every implementation. Add yours to ``SERVICES``."""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimizer_hooks

from remora.check.invariants import Header, Invariant, Invariants, write_invariants
from remora.check.relations.contains import Contains
from remora.check.services import CheckService, LearnService, RecordService
from remora.checkpoint.ride.service import CheckpointService
from remora.share.policies.contract import Priority
from remora.share.system.mechanisms.registry import Choice
from remora.share.system.service import Share
from remora.tap.job import Job
from remora.tap.observe import Observe
from remora.tap.service import Service

Make = Callable[[], Service]


class Subscribing(Service):
    """Uses every tap, and fails where a subclass says."""

    name: ClassVar[str] = "subscribing"

    def attach(self, job: Job) -> None:
        job.steps.subscribe(self.on_step)
        job.steps.subscribe_forward(lambda f: None)
        job.calls.watch("torch.nn.functional.linear", before=lambda args, kwargs: None)

    def on_step(self, step: object) -> None:
        """Nothing goes wrong here."""

    def detach(self) -> None:
        """The job removes the subscriptions."""


class FailsAttaching(Subscribing):
    name: ClassVar[str] = "fails-attaching"

    def attach(self, job: Job) -> None:
        super().attach(job)
        raise RuntimeError("no room")


class FailsInCallback(Subscribing):
    name: ClassVar[str] = "fails-in-callback"

    def on_step(self, step: object) -> None:
        raise RuntimeError("bad step")


class FailsFinishing(Subscribing):
    name: ClassVar[str] = "fails-finishing"

    def finish(self) -> None:
        raise RuntimeError("nothing to say")


class FailsDetaching(Subscribing):
    name: ClassVar[str] = "fails-detaching"

    def detach(self) -> None:
        raise RuntimeError("stuck")


def learned() -> Path:
    """A file of invariants, of which one does not hold."""
    path = Path(tempfile.mkdtemp()) / "f.inv"
    claims = (
        Contains("torch.nn.Module.forward", "torch.nn.functional.linear"),
        Contains("torch.nn.Module.forward", "torch.nn.functional.dropout"),
    )
    invariants = tuple(Invariant(claim=claim) for claim in claims)
    write_invariants(path, Invariants(header=Header(), invariants=invariants))
    return path


def shared(priority: Priority, mechanism: str | None = None) -> Share:
    folder = Path(tempfile.mkdtemp()) / "roster"
    choice = None if mechanism is None else Choice(mechanism)
    _made.add(service := Share(priority, choice, folder=folder, stderr=io.StringIO()))
    return service


_made: weakref.WeakSet[Share] = weakref.WeakSet()


SERVICES: list[Any] = [  # of Make, or of one with a mark
    lambda: Observe(stream=io.StringIO()),
    lambda: Observe(["torch.nn.functional.linear"], stream=io.StringIO()),
    lambda: LearnService(Path(tempfile.mkdtemp()) / "f.inv", stderr=io.StringIO()),
    lambda: RecordService(Path(tempfile.mkdtemp())),
    lambda: CheckService(learned(), stderr=io.StringIO()),
    lambda: CheckpointService(Path(tempfile.mkdtemp()), every=1, stream=io.StringIO()),
    lambda: shared(Priority.HIGH),
    *(partial(shared, Priority.BEST_EFFORT, mechanism) for mechanism in ("stop", "none")),
    pytest.param(partial(shared, Priority.BEST_EFFORT, "idle"), marks=pytest.mark.slow),
    Subscribing,
]
FAILING: list[Make] = [FailsAttaching, FailsInCallback, FailsFinishing, FailsDetaching]


def label(make: Make) -> str:
    return make().name


@pytest.fixture(autouse=True)
def _tables_start_empty() -> Iterator[None]:
    assert hooks() == []
    yield
    assert hooks() == []


@pytest.fixture(autouse=True)
def _as_ever_behind_a_best_effort_job() -> Iterator[None]:
    """Its process keeps its class until it ends, and here it does not."""
    yield
    for service in list(_made):
        service.leave()


def hooks() -> list[object]:
    tables = (
        module_hooks._global_forward_hooks,
        module_hooks._global_forward_pre_hooks,
        optimizer_hooks._global_optimizer_pre_hooks,
        optimizer_hooks._global_optimizer_post_hooks,
    )
    return [hook for table in tables for hook in table.values()]


def train(model: nn.Module, steps: int = 3) -> list[float]:
    """Losses of a short training run: what riding along must not change."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 3)).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fresh() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))


@pytest.mark.parametrize("make", [*SERVICES, *FAILING], ids=label)
def test_the_programs_numbers_do_not_change(make: Make) -> None:
    expected = train(fresh())
    job = Job(stderr=io.StringIO())
    job.attach(make())
    found = train(fresh())
    job.finish()

    assert found == expected


@pytest.mark.parametrize("make", [*SERVICES, *FAILING], ids=label)
def test_it_leaves_no_trace(make: Make) -> None:
    model = fresh()
    linear = nn.functional.linear
    before = [{k: id(v) for k, v in vars(part).items()} for part in model.modules()]
    job = Job(stderr=io.StringIO())
    job.attach(make())
    train(model)
    job.finish()

    assert nn.functional.linear is linear
    assert [{k: id(v) for k, v in vars(part).items()} for part in model.modules()] == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("make", SERVICES, ids=label)
def test_detaching_twice_does_no_harm(make: Make) -> None:
    service, job = make(), Job(strict=True)
    job.attach(service)
    train(fresh())
    service.detach()
    job.detach(service)
    service.detach()
    job.detach(service)


@pytest.mark.parametrize("make", SERVICES, ids=label)
def test_it_may_detach_in_the_middle_and_attach_again(make: Make) -> None:
    service, job = make(), Job(strict=True)
    for _ in range(2):
        job.attach(service)
        train(fresh(), steps=1)
        job.detach(service)
        assert hooks() == []


@pytest.mark.parametrize("make", SERVICES, ids=label)
def test_it_finishes_where_nothing_happened(make: Make) -> None:
    job = Job(strict=True)
    job.attach(make())
    job.finish()


@pytest.mark.slow
@pytest.mark.parametrize("make", SERVICES, ids=label)
def test_two_of_a_kind_ride_together(make: Make) -> None:
    job = Job(strict=True)
    job.attach(make())
    job.attach(make())
    train(fresh())
    job.finish()


@pytest.mark.parametrize("make", FAILING, ids=label)
def test_one_that_fails_says_so_once_and_spares_the_rest(make: Make) -> None:
    said = io.StringIO()
    job = Job(stderr=said)
    bystander = Subscribing()
    failing = make()
    job.attach(failing)
    job.attach(bystander)
    train(fresh())
    assert bystander in job.services
    job.finish()

    assert said.getvalue().count("\n") == 1
    assert f"service '{failing.name}' failed" in said.getvalue()


@pytest.mark.parametrize("make", FAILING[:2], ids=label)
def test_a_strict_job_hears_of_it(make: Make) -> None:
    job = Job(strict=True)
    with pytest.raises(RuntimeError):
        job.attach(make())
        train(fresh())
    job.detach_all()
