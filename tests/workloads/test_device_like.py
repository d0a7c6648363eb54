"""The stand-in for a step elsewhere: its state has the size it says, and every tensor changes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from remora.workloads import registry
from remora.workloads.contract import Scale
from remora.workloads.device_like import DeviceLikeSession, State, StateSizes

CPU = torch.device("cpu")


def _session(wait_s: float = 0.0) -> DeviceLikeSession:
    torch.manual_seed(0)
    model = State(StateSizes(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return DeviceLikeSession(model, [{"x": torch.ones(1024)}], wait_s, CPU)


def _tensors(session: DeviceLikeSession) -> dict[str, torch.Tensor]:
    moments = {
        f"{index}.{name}": value
        for index, state in session.optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    return {**session.model.state_dict(), **moments}


@pytest.mark.parametrize("name", ["device-like", "device-like-s", "device-like-xl"])
@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_the_state_has_the_stated_size(name: str, scale: Scale) -> None:
    workload = registry.get(f"{name}-train")
    footprint = workload.footprint(scale)
    stated = workload.sizes(scale)["state_mb"]
    assert isinstance(stated, int)
    assert footprint.weights + footprint.optimizer == pytest.approx(stated * 10**6, rel=0.01)


def test_what_is_built_has_the_footprints_size_in_tensors_of_many_sizes() -> None:
    tensors = _tensors(_session())
    assert len(tensors) == 3 * 146
    total = sum(tensor.nbytes for tensor in tensors.values())
    assert total == pytest.approx(10**6, rel=0.05)
    assert len({tensor.numel() for tensor in tensors.values()}) >= 6


def test_a_step_changes_one_element_of_every_tensor() -> None:
    session = _session()
    before = {name: value.clone() for name, value in _tensors(session).items()}
    session.step()
    for name, value in _tensors(session).items():
        assert int((value != before[name]).sum()) == 1, name


def test_the_optimizers_hooks_fire() -> None:
    session, seen = _session(), []

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append(optimizer)

    handle = register_optimizer_step_pre_hook(hook)
    try:
        session.step()
    finally:
        handle.remove()
    assert seen == [session.optimizer]


def test_an_outcome_tells_any_changed_tensor() -> None:
    """A restore that forgets one tensor, a moment included, shows in the losses."""
    for place in range(0, 3 * 146, 29):
        session, other = _session(), _session()
        list(_tensors(other).values())[place].view(-1)[0].mul_(1.5)
        outcomes = [(session.step().digest, other.step().digest) for _ in range(3)]
        assert any(a != b for a, b in outcomes), place


def test_a_step_waits_without_the_cpu() -> None:
    session = _session(wait_s=0.2)
    session.step()
    began, cpu = time.perf_counter(), time.thread_time()
    session.step()
    assert time.perf_counter() - began >= 0.2
    assert time.thread_time() - cpu < 0.1
