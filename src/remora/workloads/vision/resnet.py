"""ResNet-18 and ResNet-50: He et al. 2016, table 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from remora.workloads.contract import Workload
from remora.workloads.optimizers import sgd
from remora.workloads.vision.workload import VisionWorkload


@dataclass(frozen=True)
class ResNetSizes:
    batch: int
    layers: int
    """18 or 50: basic blocks or bottlenecks."""
    image: int = 224
    channels: int = 3
    classes: int = 1000
    width: int = 64
    """Channels of the first stage."""

    def network(self) -> nn.Module:
        return ResNet(self)


class _Basic(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(inputs, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, 1),
        )
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.residual(x) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """A 3×3 convolution between two 1×1, beside a shortcut. The stride is the 3×3's."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(inputs, width, 1, 1),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(width, width * self.expansion, 1, 1),
        )
        self.shortcut = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.residual(x) + self.shortcut(x))


_DEPTHS: dict[int, tuple[type[_Basic] | type[_Bottleneck], tuple[int, ...]]] = {
    18: (_Basic, (2, 2, 2, 2)),
    50: (_Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """Input (batch, channels, side, side); logits (batch, classes)."""

    def __init__(self, sizes: ResNetSizes) -> None:
        super().__init__()
        block, depths = _DEPTHS[sizes.layers]
        self.stem = nn.Sequential(
            *_convolution(sizes.channels, sizes.width, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        inputs = sizes.width
        for stage, depth in enumerate(depths):
            width = sizes.width * 2**stage
            for index in range(depth):
                blocks.append(block(inputs, width, stride=2 if stage and index == 0 else 1))
                inputs = width * block.expansion
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, sizes.classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.stages(self.stem(images)))
        return logits


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(*_convolution(inputs, outputs, 1, stride))


def workloads() -> Iterator[Workload]:
    architecture = "He et al. (CVPR 2016), table 1, ImageNet shapes; "
    published = {
        (18, "train"): (256, "batch 256 and SGD as in TrainCheck (OSDI 2025)"),
        (18, "forward"): (8, "batch 8 as for ResNet-50"),
        (50, "train"): (128, "batch 128 as in Tally (ASPLOS 2025)"),
        (50, "forward"): (8, "batch 8 as in Genie's ResNet-50 benchmark (Tally's is 1)"),
    }
    quick_width = {18: 32, 50: 16}
    for (layers, mode), (batch, source) in published.items():
        yield VisionWorkload(
            f"resnet{layers}",
            "train" if mode == "train" else "forward",
            {
                "quick": ResNetSizes(
                    4 if mode == "train" else 8, layers, image=64, width=quick_width[layers]
                ),
                "standard": ResNetSizes(4, layers),
                "paper": ResNetSizes(batch, layers),
            },
            architecture + source,
            optimizer=sgd(lr=0.01, momentum=0.9, weight_decay=1e-4) if mode == "train" else None,
        )
