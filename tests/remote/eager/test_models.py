"""Models on the device: what they give, and learn, is what they give and learn here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from remora.core.errors import CannotCapture
from remora.remote.client.server import RemoteServer
from remora.remote.eager.device import Device
from remora.workloads.vision.resnet import ResNetSizes


@pytest.fixture(autouse=True)
def _the_same_every_time() -> None:
    torch.manual_seed(0)


def gpt2(language_model: nn.Module, device: Device) -> tuple[Any, Any]:
    """Here and there."""
    return language_model, device.put(copy.deepcopy(language_model))


@torch.no_grad()
def test_a_language_model_of_transformers(language_model: nn.Module, device: Device) -> None:
    here, there = gpt2(language_model, device)
    ids = torch.randint(61, (2, 9))

    assert torch.equal(there(ids.to(device)).logits.cpu(), here(ids).logits)
    assert there.transformer.wte.weight is there.lm_head.weight  # they are one, and stay one


def test_a_language_model_generates(language_model: nn.Module, device: Device) -> None:
    here, there = gpt2(language_model, device)
    ids = torch.randint(61, (1, 5))
    how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}

    assert torch.equal(there.generate(ids.to(device), **how).cpu(), here.generate(ids, **how))


@torch.no_grad()
def test_a_residual_network(device: Device) -> None:
    here = ResNetSizes(batch=2, layers=18, image=32, classes=10, width=8).network().eval()
    there = device.put(copy.deepcopy(here))
    images = torch.randn(2, 3, 32, 32)

    assert torch.equal(there(images.to(device)).cpu(), here(images))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_network(kind: Callable[..., nn.Module], device: Device) -> None:
    here = kind(5, 7, num_layers=2, batch_first=True)
    there = device.put(copy.deepcopy(here))
    x = torch.randn(3, 4, 5)

    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(there(x.to(device))[0].cpu(), here(x)[0])


class Collatz(nn.Module):
    """How often it goes round depends on what it computes: no graph holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.norm() > 0.1:
            x = self.layer(x) * 0.5 if x.sum() > 0 else torch.tanh(x) * 0.4
        return x


@torch.no_grad()
def test_a_model_that_cannot_be_captured(remote: RemoteServer) -> None:
    here, x = Collatz(), torch.randn(2, 4) * 5

    with pytest.raises(CannotCapture, match=r"server\.device\(\)\.put\(model\)"):
        remote.load(here)(x)
    with remote.device() as device:
        assert torch.equal(device.put(copy.deepcopy(here))(x.to(device)).cpu(), here(x))


def trained(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """Losses of four steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(0.3),
        nn.Linear(16, 5),
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 5),
    ),
}  # fmt: skip


@pytest.mark.gradients
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (index > 0))
        for index, name in enumerate(NETWORKS)
    ],
)
def test_it_learns_what_it_learns_here(name: str, device: Device) -> None:
    here = NETWORKS[name]()
    there = device.put(copy.deepcopy(here))
    x, y = torch.randn(6, 3, 8, 8), torch.randint(5, (6,))

    torch.manual_seed(1)
    losses_here = trained(here, x, y)
    torch.manual_seed(1)
    losses_there = trained(there, x.to(device), y.to(device))

    assert losses_there == pytest.approx(losses_here, rel=1e-6)
    for key, want in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[key].cpu(), want)


@pytest.mark.slow
@pytest.mark.gradients
def test_a_language_model_learns(language_model: nn.Module, device: Device) -> None:
    here, there = copy.deepcopy(language_model), device.put(copy.deepcopy(language_model))
    ids = torch.randint(61, (2, 9))
    for model, tokens in ((here, ids), (there, ids.to(device))):
        model(input_ids=tokens, labels=tokens).loss.backward()

    for want, got in zip(here.parameters(), there.parameters(), strict=True):
        assert got.grad is not None
        torch.testing.assert_close(got.grad.cpu(), want.grad)


def test_weights_that_others_share_are_not_trained(device: Device) -> None:
    here: Any = nn.Linear(3, 2)
    first, second = (device.put(copy.deepcopy(here)) for _ in range(2))
    with torch.no_grad():
        first.weight.add_(1)

    assert torch.equal(second.weight.cpu(), here.weight)
    assert torch.equal(device.put(copy.deepcopy(here)).weight.cpu(), here.weight)
    assert torch.equal(first.weight.cpu(), here.weight + 1)


def test_a_module_moves_there_as_to_any_device(device: Device) -> None:
    here = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    there = copy.deepcopy(here).to(device)
    x = torch.randn(5, 3)

    assert torch.equal(there(x.to(device)).cpu(), here(x))
    assert torch.equal(there.cpu()(x), here(x))


def test_weights_that_are_there_are_not_sent_again(remote: RemoteServer) -> None:
    here = nn.Linear(64, 64)
    sent = []
    for _ in range(2):
        with remote.device() as device:
            before = remote.counted.bytes_sent + remote.counted.shared_bytes_sent
            device.put(copy.deepcopy(here))
            device.synchronize()
            sent.append(remote.counted.bytes_sent + remote.counted.shared_bytes_sent - before)

    assert sent[0] > 64 * 64 * 4
    assert sent[1] < 1000
