"""The contract of a system, held against every one of ours."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
import torch
from tests.systems.builders import TinySession, session_for
from torch.nn.modules import module
from torch.optim import optimizer
from torch.utils._python_dispatch import _get_current_dispatch_mode

from remora.core.errors import BadValue, UnknownName
from remora.systems import registry
from remora.systems.contract import System

NAMES = registry.names()
SLOW = {"ray-actor", "remote", "remote-device", "torch-rpc"}
"""Systems that start a process of their own, which takes seconds."""
PREALLOCATED = {"gpm-like", "remora-checkpoint"}
"""Systems whose files take their space before there is anything to write."""
INTERVALS = [name for name in NAMES if "every" in registry.create(name).settings()]


def _children() -> list[str]:
    """Processes of ours, without the one that multiprocessing keeps for all that it starts."""
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    return [command for command in commands if "resource_tracker" not in command]


def _process() -> tuple[object, ...]:
    return (
        _children(),
        dict(os.environ),
        torch.distributed.is_initialized(),
        sys.gettrace(),
        _get_current_dispatch_mode(),
        dict(optimizer._global_optimizer_pre_hooks),
        dict(optimizer._global_optimizer_post_hooks),
        dict(module._global_forward_hooks),
        dict(module._global_forward_pre_hooks),
    )


def _session_hooks(session: TinySession) -> list[object]:
    modules = session.model.modules()
    return [
        dict(session.optimizer._optimizer_step_pre_hooks),
        dict(session.optimizer._optimizer_step_post_hooks),
        *(dict(each._forward_hooks) for each in modules),
    ]


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES]
)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> System:
    return _prepared(registry.create(request.param), tmp_path_factory)


def _prepared(system: System, tmp_path_factory: pytest.TempPathFactory) -> System:
    if reason := registry.missing(system):
        pytest.skip(reason)
    if not system.preparation():
        return system
    kept = tmp_path_factory.mktemp("kept")
    system.prepare(lambda number: session_for(system, number), kept)
    return system.prepared(kept)


def test_it_introduces_itself(system: System) -> None:
    assert system.name in NAMES
    assert system.title
    assert set(system.settings()) == {field.name for field in fields(system)}


def test_it_does_the_sessions_work_and_no_other(system: System, tmp_path: Path) -> None:
    alone = session_for(system)
    expected = [alone.step().digest for _ in range(12)]
    ride = system.ride(session_for(system), tmp_path)
    try:
        assert [ride.step().digest for _ in range(12)] == expected
        ride.drain()
    finally:
        ride.close()


def test_closing_leaves_no_trace(system: System, tmp_path: Path) -> None:
    before = _process()
    session = session_for(system)
    hooks = _session_hooks(session)
    ride = system.ride(session, tmp_path)
    for _ in range(6):
        ride.step()
    ride.close()
    assert before == _process()
    assert hooks == _session_hooks(session)


def test_after_draining_nothing_is_in_flight(system: System, tmp_path: Path) -> None:
    ride = system.ride(session_for(system), tmp_path)
    for _ in range(6):
        ride.step()
    ride.drain()
    moved, files = ride.moved(), sorted(tmp_path.rglob("*"))
    threading.Event().wait(0.05)
    assert (ride.moved(), sorted(tmp_path.rglob("*"))) == (moved, files)
    ride.close()


def test_what_it_says_it_moved_lies_on_disk(system: System, tmp_path: Path) -> None:
    ride = system.ride(session_for(system), tmp_path)
    for _ in range(ride.period):
        ride.step()
    ride.drain()
    on_disk = sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file())
    moved = ride.moved().disk_bytes
    assert 0 < moved < on_disk if system.name in PREALLOCATED else moved == on_disk
    ride.close()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown option of system"):
        registry.create(name, {"colour": "blue"})


@pytest.mark.parametrize("name", INTERVALS)
def test_options_of_the_wrong_type_are_refused(name: str) -> None:
    with pytest.raises(BadValue, match="is not of type int"):
        registry.create(name, {"every": "often"})


@pytest.mark.parametrize("name", INTERVALS)
def test_an_impossible_interval_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"every=0.* choose "):
        registry.create(name, {"every": 0}).ride(TinySession(), tmp_path)


def test_an_unknown_system_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'torch-save'.*native"):
        registry.create("torch-sav")
