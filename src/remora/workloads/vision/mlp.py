"""A multilayer perceptron on images of digits: a step so short that whatever rides along shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from remora.workloads.contract import Workload
from remora.workloads.optimizers import sgd
from remora.workloads.vision.workload import VisionWorkload


@dataclass(frozen=True)
class MlpSizes:
    batch: int = 32
    image: int = 28
    channels: int = 1
    classes: int = 10
    width: int = 64

    def network(self) -> nn.Module:
        return Mlp(self)


class Mlp(nn.Module):
    """Input (batch, 1, 28, 28); logits (batch, 10)."""

    def __init__(self, sizes: MlpSizes) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(sizes.channels * sizes.image**2, sizes.width),
            nn.ReLU(),
            nn.Linear(sizes.width, sizes.classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def workloads() -> Iterator[Workload]:
    sizes = MlpSizes()
    yield VisionWorkload(
        "mlp",
        "train",
        {"quick": sizes, "standard": sizes, "paper": sizes},
        "ours: a training step of well under a millisecond, on which any cost shows",
        optimizer=sgd(lr=0.1, momentum=0.9),
    )
