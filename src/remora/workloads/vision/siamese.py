"""A siamese network that tells whether two digits are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from remora.workloads.contract import Work, Workload
from remora.workloads.images import ImageShape, image_batches
from remora.workloads.model_workload import BATCHES
from remora.workloads.optimizers import adadelta
from remora.workloads.sessions import Batch
from remora.workloads.vision.resnet import ResNet, ResNetSizes
from remora.workloads.vision.workload import VisionSizes, VisionWorkload


@dataclass(frozen=True)
class SiameseSizes:
    batch: int
    """Pairs of images."""
    hidden: int = 256
    image: int = 28
    channels: int = 1
    classes: int = 10
    width: int = 64
    """Channels of the trunk's first stage."""

    def network(self) -> nn.Module:
        return Siamese(self)


class Siamese(nn.Module):
    """Two images (batch, 1, 28, 28) each to whether they are the same (batch,), in 0 to 1.

    The trunk is ResNet-18 up to its classifier, and both images go through the same one.
    """

    def __init__(self, sizes: SiameseSizes) -> None:
        super().__init__()
        trunk = ResNetSizes(sizes.batch, 18, sizes.image, sizes.channels, width=sizes.width)
        resnet = ResNet(trunk)
        self.trunk = nn.Sequential(
            resnet.stem, resnet.stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Sequential(
            nn.Linear(2 * 8 * sizes.width, sizes.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(sizes.hidden, 1),
            nn.Sigmoid(),
            nn.Flatten(0),
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.trunk(first), self.trunk(second)], dim=1)
        same: torch.Tensor = self.head(both)
        return same


@dataclass(eq=False)
class SiameseWorkload(VisionWorkload):
    """The outcome is the binary cross entropy. Pairs are as they come: of one class by chance."""

    def batches(
        self, sizes: VisionSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = ImageShape(BATCHES, 2 * sizes.batch, sizes.channels, sizes.image, sizes.classes)
        return [_pairs(batch) for batch in image_batches(shape, device, seed, data)]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return binary_cross_entropy(model(batch["first"], batch["second"]), batch["same"])

    def work(self, sizes: VisionSizes) -> Work:
        return Work(sizes.batch, "pairs")


def _pairs(batch: Batch) -> Batch:
    first, second = batch["images"].chunk(2)
    one, other = batch["labels"].chunk(2)
    return {"first": first, "second": second, "same": (one == other).float()}


def workloads() -> Iterator[Workload]:
    yield SiameseWorkload(
        "siamese",
        "train",
        {
            "quick": SiameseSizes(batch=4, width=16),
            "standard": SiameseSizes(batch=64),
            "paper": SiameseSizes(batch=64),
        },
        "the siamese network of PyTorch's examples: ResNet-18's trunk, MNIST shapes, "
        "batch 64 and Adadelta; a workload of TrainCheck (OSDI 2025)",
        optimizer=adadelta(lr=1.0),
    )
