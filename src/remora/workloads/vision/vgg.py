"""VGG-16: Simonyan and Zisserman 2015, configuration D."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from remora.workloads.contract import Workload
from remora.workloads.optimizers import sgd
from remora.workloads.vision.workload import VisionWorkload

_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Per stage: width as a multiple of the first stage's, and how many convolutions."""


@dataclass(frozen=True)
class VggSizes:
    batch: int
    image: int = 224
    channels: int = 3
    classes: int = 1000
    width: int = 64
    """Channels of the first stage."""
    hidden: int = 4096
    """Width of the two hidden fully connected layers."""

    def network(self) -> nn.Module:
        return Vgg16(self)


class Vgg16(nn.Module):
    """Thirteen 3×3 convolutions in five stages, then three fully connected layers.

    Input (batch, channels, side, side) with any side of at least 32; logits (batch, classes).
    """

    def __init__(self, sizes: VggSizes) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = sizes.channels
        for multiple, convolutions in _STAGES:
            for _ in range(convolutions):
                outputs = sizes.width * multiple
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        side = sizes.image // 32
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * side * side, sizes.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(sizes.hidden, sizes.classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def workloads() -> Iterator[Workload]:
    quick = VggSizes(batch=4, image=64, width=16, hidden=1536)
    architecture = "VGG-16 D, Simonyan and Zisserman (ICLR 2015), table 1"
    yield VisionWorkload(
        "vgg16",
        "train",
        {"quick": quick, "standard": VggSizes(batch=2), "paper": VggSizes(batch=32)},
        f"{architecture}; "
        "momentum and decay of section 3.1, rate 0.001 for the smaller batch; "
        "batch 32 as in PCcheck (ASPLOS 2025), figure 12",
        optimizer=sgd(lr=0.001, momentum=0.9, weight_decay=5e-4),
    )
    yield VisionWorkload(
        "vgg16",
        "forward",
        {"quick": quick, "standard": VggSizes(batch=1), "paper": VggSizes(batch=8)},
        f"{architecture}; batch 8 is ours, that of the ResNet-50 inference it stands beside",
    )
