"""Every global generator is captured and put back, on however many devices there are."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.checkpoint.state.tree import flatten, unflatten
from remora.core.errors import CheckpointDamaged


class FakeCuda:
    """As many devices as asked for, each with a state of its own."""

    def __init__(self, devices: int, *, initialized: bool = True) -> None:
        self.states = [torch.full((16,), index, dtype=torch.uint8) for index in range(devices)]
        self._initialized = initialized

    def is_available(self) -> bool:
        return bool(self.states)

    def is_initialized(self) -> bool:
        return self._initialized

    def device_count(self) -> int:
        return len(self.states)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [state.clone() for state in self.states]

    def set_rng_state(self, new_state: torch.Tensor, device: int) -> None:
        self.states[device] = new_state


def stored(state: dict[str, Any]) -> dict[str, Any]:
    flat = flatten(state)
    return unflatten(flat.document, flat.tensors.__getitem__)


def test_each_device_gets_its_own_state_back() -> None:
    cuda, again = FakeCuda(3), FakeCuda(3)
    cuda.states[1][:] = 77
    assert restore_rng(stored(capture_rng(cuda)), again) == []
    assert all(torch.equal(a, b) for a, b in zip(cuda.states, again.states, strict=True))


@pytest.mark.parametrize("here", [0, 2])
def test_fewer_devices_than_there_were_is_said(here: int) -> None:
    cuda, smaller = FakeCuda(3), FakeCuda(here)
    for state in cuda.states:
        state += 50
    (line,) = restore_rng(capture_rng(cuda), smaller)
    assert line == f"random numbers of 3 CUDA devices are in the checkpoint, {here} are here"
    assert [int(state[0]) for state in smaller.states] == [50, 51][:here]


def test_a_process_that_has_not_touched_cuda_has_no_state_there() -> None:
    assert "cuda" not in capture_rng(FakeCuda(2, initialized=False))
    assert "cuda" not in capture_rng(None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_draws_the_same_again() -> None:
    torch.rand(3, device="cuda")
    state = stored(capture_rng())
    wanted = torch.rand(5, device="cuda")
    assert restore_rng(state) == []
    assert torch.equal(torch.rand(5, device="cuda"), wanted)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["numpy"]["state"].update(pos=10**6),
        lambda state: state["numpy"]["state"].update(pos=-1),
        lambda state: state["numpy"]["state"].update(key=np.zeros(3, np.uint32)),
        lambda state: state["numpy"].update(bit_generator="Other"),
        lambda state: state.update(numpy=5),
        lambda state: state["python"].update(words=torch.zeros(3, dtype=torch.uint32)),
        lambda state: state["python"].update(version="x"),
        lambda state: state["python"].update(words=np.full(625, 2**32 - 1, np.uint32)),
        lambda state: state.update(torch=torch.zeros(3, dtype=torch.uint8)),
        lambda state: state.update(torch=torch.zeros(5056)),
        lambda state: state.update(torch=[1]),
    ],
    ids=range(11),
)
def test_a_state_that_is_none_is_refused(damage: Any) -> None:
    state = capture_rng()
    damage(state)
    kept = random.getstate()
    with pytest.raises(CheckpointDamaged, match="no state of a random number generator"):
        restore_rng(state)
    random.setstate(kept)
