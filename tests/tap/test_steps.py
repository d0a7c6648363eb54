"""Optimizer steps: counted once, whoever takes them and however they end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import optimizer as torch_optimizer

from remora.tap.job import Job
from remora.tap.steps import Step, _may_nest
from remora.tap.subscription import Subscription

Stepper = Callable[[torch.optim.Optimizer], None]


def parameter() -> nn.Parameter:
    made = nn.Parameter(torch.ones(2))
    made.grad = torch.ones(2)
    return made


def hooks() -> int:
    before, after = (
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    )
    return len(before) + len(after)


def test_before_and_after_come_in_order_with_one_number(
    job: Job, model: nn.Module, step: Stepper
) -> None:
    log: list[tuple[str, int, int]] = []
    job.steps.subscribe(
        after=lambda s: log.append(("after", s.number, s.total)),
        before=lambda s: log.append(("before", s.number, s.total)),
    )
    optimizer = torch.optim.Adam(model.parameters())

    step(optimizer)
    step(optimizer)

    assert log == [("before", 0, 0), ("after", 0, 1), ("before", 1, 1), ("after", 1, 2)]
    assert job.steps.count == 2


def test_hooks_are_there_only_while_somebody_is_subscribed(job: Job) -> None:
    assert hooks() == 0
    first, second = job.steps.subscribe(print), job.steps.subscribe(before=print)
    assert hooks() == 2
    second.remove()
    assert hooks() == 1
    first.remove()
    assert hooks() == 0
    second = job.steps.subscribe(print)
    assert hooks() == 1  # before a step nobody is to be told
    second.remove()
    second.remove()
    assert hooks() == 0


@given(st.lists(st.integers(0, 2), max_size=30))
@settings(deadline=None, max_examples=30)
def test_the_count_is_the_busiest_optimizers(order: list[int]) -> None:
    job = Job()
    advances: list[bool] = []
    optimizers = [torch.optim.SGD([parameter()], lr=0.1) for _ in range(3)]
    job.steps.subscribe(lambda s: advances.append(s.advances))
    try:
        for which in order:
            optimizers[which].step()
        assert job.steps.count == max((order.count(n) for n in range(3)), default=0)
        assert sum(advances) == job.steps.count
    finally:
        job.detach_all()


def test_a_step_that_raises_does_not_count(job: Job) -> None:
    class Flaky(torch.optim.SGD):
        healthy = False

        def step(self, closure: Any = None) -> Any:
            if not self.healthy:
                raise RuntimeError("flaky")
            return super().step(closure)

    log: list[tuple[str, int]] = []
    job.steps.subscribe(
        lambda s: log.append(("after", s.number)), lambda s: log.append(("before", s.number))
    )
    torch.optim.SGD([parameter()], lr=0.1)  # so that torch hooks the parent's step too
    flaky = Flaky([parameter()], lr=0.1)
    with pytest.raises(RuntimeError, match="flaky"):
        flaky.step()
    flaky.healthy = True
    flaky.step()

    assert log == [("before", 0), ("before", 0), ("after", 0)]
    assert job.steps.count == 1


def test_a_step_that_calls_its_parents_counts_once(job: Job) -> None:
    class Child(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    torch.optim.SGD([parameter()], lr=0.1)
    child = Child([parameter()], lr=0.1)
    seen: list[int] = []
    job.steps.subscribe(lambda s: seen.append(s.number))

    child.step()
    child.step()

    assert seen == [0, 1]


def test_an_optimizer_that_drives_another_counts_both(job: Job) -> None:
    inner = torch.optim.SGD([parameter()], lr=0.1)

    class Outer(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__([parameter()], {})

        def step(self, closure: Any = None) -> Any:
            inner.step()
            inner.step()

    seen: list[tuple[str, int]] = []
    job.steps.subscribe(lambda s: seen.append((type(s.optimizer).__name__, s.number)))
    Outer().step()

    assert seen == [("SGD", 0), ("SGD", 1), ("Outer", 0)]


def test_a_gradient_scaler_that_skips_is_no_step(job: Job) -> None:
    healthy = parameter()
    optimizer = torch.optim.SGD([healthy], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    job.steps.subscribe(lambda s: None)
    for gradient in (float("inf"), 1.0):
        scaler.scale(torch.ones(1))
        healthy.grad = torch.full((2,), gradient)
        scaler.step(optimizer)
        scaler.update()

    assert job.steps.count == 1


def test_threads_do_not_disturb_each_other(job: Job) -> None:
    seen: list[tuple[int, int]] = []
    job.steps.subscribe(lambda s: seen.append((id(s.optimizer), s.number)))
    optimizers = [torch.optim.SGD([parameter()], lr=0.1) for _ in range(4)]

    def run(optimizer: torch.optim.Optimizer) -> None:
        for _ in range(50):
            optimizer.step()

    threads = [threading.Thread(target=run, args=(one,)) for one in optimizers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for optimizer in optimizers:
        assert [n for who, n in seen if who == id(optimizer)] == list(range(50))
    assert job.steps.count == 50


def test_no_optimizer_is_kept_alive(job: Job) -> None:
    job.steps.subscribe(lambda s: None)
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    optimizer.step()
    alive = weakref.ref(optimizer)

    del optimizer
    gc.collect()

    assert alive() is None


@pytest.mark.parametrize("phase", ["before", "after"])
def test_leaving_inside_a_callback_spares_the_hooks_of_others(job: Job, phase: str) -> None:
    theirs: list[str] = []
    held: list[Subscription] = []
    held.append(job.steps.subscribe(**{phase: lambda s: held[0].remove()}))
    handles = [
        torch_optimizer.register_optimizer_step_pre_hook(lambda *_: theirs.append("before")),
        torch_optimizer.register_optimizer_step_post_hook(lambda *_: theirs.append("after")),
    ]
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    try:
        optimizer.step()
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    job.detach_all()
    job.steps.subscribe(print).remove()

    assert theirs == ["before", "after"] * 2
    assert hooks() == 0


def test_subscribing_again_after_leaving_inside_a_callback_works(job: Job) -> None:
    seen: list[Step] = []
    first = job.steps.subscribe(lambda s: first.remove())
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    optimizer.step()
    job.steps.subscribe(seen.append)
    optimizer.step()

    assert len(seen) == 1


def test_what_step_was_given_is_told(job: Job) -> None:
    seen: list[Step] = []
    job.steps.subscribe(seen.append)
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    optimizer.step(closure=None)

    assert seen[0].args == (optimizer,)
    assert seen[0].kwargs == {"closure": None}


def test_the_stack_is_read_only_where_a_step_can_call_another() -> None:
    class Child(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    class Plain(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> Any:
            return None

    assert [_may_nest(cls) for cls in (Child, Plain, torch.optim.SGD)] == [True, False, False]


def test_a_step_under_way_at_the_subscription_ends_with_an_after_alone(job: Job) -> None:
    log: list[str] = []

    def closure() -> float:
        if not job.steps.count and not log:
            job.steps.subscribe(lambda s: log.append("after"), lambda s: log.append("before"))
        return 0.0

    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    optimizer.step(closure)
    optimizer.step(closure)

    assert log == ["after", "before", "after"]


def test_a_watch_that_begins_within_a_step_is_told_of_the_next(job: Job) -> None:
    log: list[object] = []

    def closure() -> float:
        if not log:
            log.append("begun")
            job.calls.watch(
                "torch.optim.SGD.step",
                before=lambda args, kwargs: "token",
                after=lambda token, result: log.append(token),
            )
        return 0.0

    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    optimizer.step(closure)
    optimizer.step(closure)

    assert log == ["begun", "token"]


def test_a_job_that_is_over_frees_what_it_knew_of_an_optimizer_at_once() -> None:
    """Left to the collector, its weak references can be freed while torch's object dies."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    before = weakref.getweakrefcount(optimizer)
    gc.disable()
    try:
        job = Job(strict=True)
        job.steps.subscribe(lambda s: None)
        job.calls.watch("torch.optim.SGD.step", before=lambda args, kwargs: None)
        optimizer.step()
        assert weakref.getweakrefcount(optimizer) > before
        job.detach_all()
        del job
        assert weakref.getweakrefcount(optimizer) == before
    finally:
        gc.enable()
