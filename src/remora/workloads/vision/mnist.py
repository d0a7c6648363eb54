"""The two-convolution network that tutorials train on MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from remora.workloads.contract import Workload
from remora.workloads.optimizers import adadelta
from remora.workloads.vision.workload import VisionWorkload


@dataclass(frozen=True)
class MnistSizes:
    batch: int
    image: int = 28
    channels: int = 1
    classes: int = 10
    width: int = 32
    """Channels of the first convolution; the second has twice as many."""

    def network(self) -> nn.Module:
        return MnistCnn(self)


class MnistCnn(nn.Module):
    """Input (batch, 1, 28, 28); logits (batch, 10)."""

    def __init__(self, sizes: MnistSizes) -> None:
        super().__init__()
        side = (sizes.image - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(sizes.channels, sizes.width, 3),
            nn.ReLU(),
            nn.Conv2d(sizes.width, 2 * sizes.width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * sizes.width * side * side, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, sizes.classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def workloads() -> Iterator[Workload]:
    yield VisionWorkload(
        "mnist-cnn",
        "train",
        {"quick": MnistSizes(batch=32), "standard": MnistSizes(64), "paper": MnistSizes(64)},
        "two-convolution CNN, batch 64 and Adadelta as in TrainCheck (OSDI 2025); MNIST shapes",
        optimizer=adadelta(lr=1.0),
    )
