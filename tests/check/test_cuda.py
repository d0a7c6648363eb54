"""Variables on a CUDA device; run by ``make gpu-check``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.check.training import check, first, learn
from torch import nn

from remora.check.digest import device_digest

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

Fault = Callable[[int, nn.Module], object]
STEPS = 6


def training(fault: Fault = lambda step, model: None, fused: bool = False) -> Callable[[], None]:
    def program() -> None:
        model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)).cuda()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
        for step in range(STEPS):
            optimizer.zero_grad()
            model(torch.randn(16, 256, device="cuda")).square().mean().backward()
            fault(step, model)
            optimizer.step()

    return program


@pytest.mark.parametrize("fused", [False, True])
def test_a_healthy_run_on_a_device_is_found_healthy(fused: bool) -> None:
    invariants = learn(training(fused=fused))
    assert any("changes every parameter" in one.words() for one in invariants)
    assert check(invariants, training(fused=fused)) == []


def test_a_parameter_that_becomes_infinite_is_found_in_its_step() -> None:
    def poison(step: int, model: nn.Module) -> None:
        if step == 3:
            model[0].weight.grad[17, 33] = float("nan")  # type: ignore[index]

    found = first(check(learn(training()), training(poison)), "finite")
    assert found.step == 3


def test_a_step_that_changes_nothing_is_found() -> None:
    def clear(step: int, model: nn.Module) -> None:
        if step >= 3:
            model.zero_grad(set_to_none=True)

    assert first(check(learn(training()), training(clear)), "changes every parameter").step == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.bool])
def test_the_digest_sees_every_element(dtype: torch.dtype) -> None:
    tensor = torch.zeros(1001, dtype=dtype, device="cuda")
    digests = {int(device_digest(tensor))}
    for place in (0, 500, 1000):
        changed = tensor.clone()
        changed[place] = 1
        digests.add(int(device_digest(changed)))
    assert len(digests) == 4
