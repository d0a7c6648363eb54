"""Who owns a subscription, and what happens when a callback raises."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

from remora.core.errors import BadValue, UserError
from remora.tap import wrap
from remora.tap.job import Job

Stepper = Callable[[torch.optim.Optimizer], None]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def fail(*_: object) -> None:
    raise ValueError("out of\nluck")


def test_a_failing_callback_detaches_its_service_and_says_why_once(
    job: Job, said: io.StringIO, make_service: Any, model: nn.Module, step: Stepper
) -> None:
    seen: list[int] = []
    failing = make_service(lambda view: (view.steps.subscribe(fail), view.steps.subscribe(fail)))
    healthy = make_service(lambda view: view.steps.subscribe(lambda s: seen.append(s.number)))
    job.attach(failing)
    job.attach(healthy)
    optimizer = sgd(model)

    step(optimizer)
    step(optimizer)

    assert failing.detached == 1
    assert job.services == (healthy,)
    assert seen == [0, 1]
    line = said.getvalue()
    assert line.startswith("remora: service 'made' failed in a step callback and was detached: ")
    assert "ValueError: out of luck" in line
    assert "test_job.py:" in line
    assert line.count("\n") == 1


def test_a_strict_job_hands_the_exception_to_the_program(
    strict_job: Job, said: io.StringIO, make_service: Any, model: nn.Module, step: Stepper
) -> None:
    service = make_service(lambda view: view.steps.subscribe(fail))
    strict_job.attach(service)

    with pytest.raises(ValueError, match="luck"):
        step(sgd(model))

    assert service.detached == 1
    assert said.getvalue() == ""


def test_a_failing_subscription_nobody_owns_goes_alone(
    job: Job, said: io.StringIO, model: nn.Module, step: Stepper
) -> None:
    seen: list[int] = []
    job.steps.subscribe(fail)
    job.steps.subscribe(lambda s: seen.append(s.number))
    optimizer = sgd(model)

    step(optimizer)
    step(optimizer)

    assert seen == [0, 1]
    assert said.getvalue().count("a subscription failed in a step callback") == 1


def test_a_service_detaching_itself_in_its_callback_stops_at_once(
    job: Job, make_service: Any, model: nn.Module, step: Stepper
) -> None:
    seen: list[int] = []

    def once(_: object) -> None:
        seen.append(1)
        job.detach(service)

    service = make_service(lambda view: (view.steps.subscribe(once), view.steps.subscribe(once)))
    job.attach(service)
    optimizer = sgd(model)
    step(optimizer)
    step(optimizer)

    assert seen == [1]
    assert service.detached == 1


def test_a_service_whose_attach_raises_leaves_nothing(
    job: Job, said: io.StringIO, make_service: Any, model: nn.Module, step: Stepper
) -> None:
    seen: list[object] = []

    def subscribe_then_fail(view: Job) -> None:
        view.steps.subscribe(seen.append)
        raise RuntimeError("half way")

    job.attach(make_service(subscribe_then_fail))
    step(sgd(model))

    assert job.services == ()
    assert seen == []
    assert "failed while attaching" in said.getvalue()


def test_what_the_user_can_mend_is_raised_from_attach(job: Job, make_service: Any) -> None:
    def refuse(_: Job) -> None:
        raise UserError("no such thing")

    with pytest.raises(UserError, match="no such thing"):
        job.attach(make_service(refuse))
    assert job.services == ()


def test_attaching_twice_is_refused(job: Job, make_service: Any) -> None:
    service = make_service(lambda view: None)
    job.attach(service)

    with pytest.raises(BadValue, match="attached already"):
        job.attach(service)


def test_detaching_twice_does_no_harm(job: Job, make_service: Any) -> None:
    service = make_service(lambda view: None)
    job.attach(service)
    job.detach(service)
    job.detach(service)

    assert service.detached == 1


def test_finish_comes_before_detach_and_one_failure_spares_the_rest(
    job: Job, said: io.StringIO, make_service: Any
) -> None:
    bad, good = make_service(lambda view: None), make_service(lambda view: None)
    bad.finish = fail
    job.attach(bad)
    job.attach(good)

    job.finish()

    assert (good.finished, good.detached, bad.detached) == (1, 1, 1)
    assert said.getvalue().count("failed while finishing") == 1


def test_a_subscription_made_after_its_service_left_is_dead(
    job: Job, make_service: Any, model: nn.Module, step: Stepper
) -> None:
    views: list[Job] = []
    seen: list[object] = []
    service = make_service(views.append)
    job.attach(service)
    job.detach(service)

    subscription = views[0].steps.subscribe(seen.append)
    step(sgd(model))

    assert not subscription.live
    assert seen == []


def test_a_forked_child_is_left_alone(job: Job, make_service: Any, model: nn.Module) -> None:
    service = make_service(lambda view: view.steps.subscribe(lambda s: None))
    job.attach(service)
    pid = os.fork()
    if pid == 0:
        job.abandon()
        job.finish()
        clean = not _global_optimizer_post_hooks and service.finished == 0 and service.detached == 0
        os._exit(0 if clean else 1)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert job.services == (service,)


@pytest.mark.parametrize("fault", [ValueError("closed"), BrokenPipeError()])
def test_a_stream_that_cannot_be_written_to_spares_the_program(
    make_service: Any, fault: Exception
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise fault

    job = Job(stderr=Gone())
    service = make_service(lambda job: 1 / 0)
    job.attach(service)

    assert job.services == ()


def test_a_service_that_leaves_puts_all_its_functions_back_in_one_pass(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass looks through every name of every module."""
    passes: list[int] = []
    swap = wrap._swap_in_modules

    def counted(swaps: dict[int, Any]) -> None:
        passes.append(len(swaps))
        swap(swaps)

    monkeypatch.setattr(wrap, "_swap_in_modules", counted)
    names = ("relu", "gelu", "silu", "linear")
    bare = [getattr(torch.nn.functional, name) for name in names]

    def watch(job: Job) -> None:
        with job.calls.together():
            for name in names:
                job.calls.watch(f"torch.nn.functional.{name}", before=lambda *_: None)

    job, service = Job(), make_service(watch)
    job.attach(service)
    job.detach(service)

    there, back = passes
    assert there == back >= len(names)
    assert [getattr(torch.nn.functional, name) for name in names] == bare


def test_a_service_is_told_of_an_import_until_it_leaves(said: io.StringIO) -> None:
    told: list[str] = []
    job = Job(stderr=said)
    job.imports.subscribe("sys", lambda: told.append("sys"))
    finders = list(sys.meta_path)
    job.imports.subscribe("wave_that_is_not_there", lambda: told.append("wave")).remove()

    assert told == ["sys"]
    assert sys.meta_path == finders


def test_a_failure_on_an_import_is_the_subscribers(said: io.StringIO) -> None:
    job = Job(stderr=said)
    job.imports.subscribe("sys", lambda: 1 / 0)

    assert "failed when 'sys' was imported" in said.getvalue()
