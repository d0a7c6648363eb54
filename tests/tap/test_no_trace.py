"""Riding along leaves no trace: the program's objects before and after, compared."""

from __future__ import annotations

import gc
import importlib
import io
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimizer_hooks

import remora
from remora.tap.job import Job
from remora.tap.observe import Observe

OURS = str(Path(remora.__file__).parent)

WATCHED = [
    "torch.nn.functional.dropout",
    "torch.nn.functional.linear",
    "torch.add",
    "torch.Tensor.add_",
    "torch.nn.Linear.forward",
    "torch.nn.Module.train",
    "torch.optim.Adam.step",
    "torch.optim.Optimizer.zero_grad",
    "torch.save",
    "torch.utils.data.DataLoader.__iter__",
    "traced_module.function",
    "traced_module.Holder.inherited",
]
CLASSES = [
    torch.Tensor, nn.Module, nn.Linear, nn.Sequential, torch.optim.Optimizer, torch.optim.Adam,
    torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.StepLR,
    torch.utils.data.DataLoader,
]  # fmt: skip
HOOK_TABLES = [
    *(getattr(module_hooks, name) for name in vars(module_hooks) if name.startswith("_global_")
      and isinstance(getattr(module_hooks, name), dict)),
    optimizer_hooks._global_optimizer_pre_hooks,
    optimizer_hooks._global_optimizer_post_hooks,
]  # fmt: skip


def modules_seen() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in ("torch", "traced_module")]


def namespace(owner: Any) -> dict[str, int]:
    """Attribute names, in order, with the identity of what each holds."""
    return {name: id(value) for name, value in vars(owner).items()}


def snapshot(names: list[str], *instances: Any) -> dict[str, Any]:
    return {
        "modules": {name: namespace(sys.modules[name]) for name in names},
        "classes": {cls: namespace(cls) for cls in CLASSES},
        "instances": [(list(vars(one)), _hooks_of(one)) for one in instances],
        "hooks": [dict(table) for table in HOOK_TABLES],
        "meta_path": list(sys.meta_path),
        "path_hooks": list(sys.path_hooks),
        "excepthook": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "audit": (sys.displayhook, sys.breakpointhook),
        "threads": threading.enumerate(),
        "gc": (gc.isenabled(), gc.get_threshold(), list(gc.callbacks)),
        "warnings": list(warnings.filters),
    }


def _hooks_of(instance: Any) -> dict[str, dict[Any, Any]]:
    parts = list(instance.modules()) if isinstance(instance, nn.Module) else [instance]
    return {
        f"{number}{name}": dict(value)
        for number, part in enumerate(parts)
        for name, value in vars(part).items()
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    }


@pytest.fixture
def traced_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "traced_module.py").write_text(
        "from torch.nn.functional import dropout\n"
        "def function(x): return dropout(x)\n"
        "class Parent:\n    def inherited(self): return 1\n"
        "class Holder(Parent): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "traced_module", raising=False)
    return importlib.import_module("traced_module")


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, traced_module: Any
) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(traced_module.function(torch.ones(2, 4))).sum().backward()
        optimizer.step()
        scheduler.step()
    traced_module.Holder().inherited()
    model.train()
    list(torch.utils.data.DataLoader([1, 2]))  # type: ignore[arg-type]
    torch.save({}, io.BytesIO())


def ride(job: Job) -> None:
    """Every tap there is, by two services and by nobody."""
    job.attach(Observe(watch=WATCHED, stream=io.StringIO()))
    job.attach(Observe(watch=WATCHED[:3], stream=io.StringIO()))
    job.steps.subscribe(after=lambda s: None, before=lambda s: None)
    job.steps.subscribe_forward(after=lambda f: None, before=lambda f: None)
    for name in WATCHED:
        job.calls.watch(name, before=lambda a, k: None, after=lambda t, r: None)
    job.state.find()


Leave = Callable[[Job], None]


@pytest.mark.parametrize(
    "leave",
    [
        Job.detach_all,
        pytest.param(Job.finish, marks=pytest.mark.slow),
        pytest.param(Job.abandon, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_everything_is_as_it_was(
    leave: Leave, strict: bool, model: nn.Module, traced_module: Any
) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer, scheduler, traced_module)  # torch's own first-use changes come first
    names = modules_seen()
    before = snapshot(names, model, optimizer, scheduler)
    job = Job(strict=strict, stderr=io.StringIO())

    ride(job)
    during = snapshot(names, model, optimizer, scheduler)
    train(model, optimizer, scheduler, traced_module)
    leave(job)

    after = snapshot(names, model, optimizer, scheduler)
    assert during != before  # the snapshot sees what riding changes
    for what in before:
        assert after[what] == before[what], what


def test_an_idle_job_changes_nothing(model: nn.Module, traced_module: Any) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    names = modules_seen()
    before = snapshot(names, model, optimizer)
    job = Job()
    during = snapshot(names, model, optimizer)

    assert during == before
    assert job.services == ()


@pytest.mark.slow
def test_a_scheduler_made_during_the_ride_keeps_nothing_of_it(
    model: nn.Module, traced_module: Any
) -> None:
    job = Job()
    ride(job)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer, scheduler, traced_module)
    job.detach_all()
    train(model, optimizer, scheduler, traced_module)

    held = [*vars(optimizer).values(), *vars(scheduler).values(), torch.optim.Adam.step]
    assert not [one for one in held if "remora" in str(getattr(one, "__module__", ""))]
    assert not _remora_code_reachable_from(vars(optimizer).get("step"))


def _remora_code_reachable_from(function: Any) -> bool:
    while function is not None:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and code.co_filename.startswith(OURS):
            return True
        function = getattr(function, "__wrapped__", None)
    return False
