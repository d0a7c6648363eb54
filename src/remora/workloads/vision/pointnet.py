"""PointNet: Qi et al. 2017, which tells what an object is from points on its surface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from remora.core.errors import BadValue
from remora.workloads.contract import Work, Workload
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch

_ORTHOGONAL = 0.001
"""Weight of the loss that keeps the feature transform near a rotation (section 4.2)."""


@dataclass(frozen=True)
class PointNetSizes:
    batch: int
    points: int = 1024
    classes: int = 40
    width: int = 64
    """Of the first layers; the widest are 16 times as wide."""


def _points(*widths: int) -> nn.Sequential:
    """Layers that each point goes through by itself: (batch, first, points) to (…, last, …)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv1d(before, after, 1), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Transform(nn.Module):
    """Finds a matrix by which to turn all points (appendix C): (batch, size, size)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.points = _points(size, width, 2 * width, 16 * width)
        self.dense = _dense(16 * width, 8 * width, 4 * width)
        self.last = nn.Linear(4 * width, size * size)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        found = self.last(self.dense(self.points(points).amax(-1)))
        identity = torch.eye(self.size, device=points.device, dtype=points.dtype)
        turned: torch.Tensor = found.view(-1, self.size, self.size) + identity
        return turned


class PointNet(nn.Module):
    """Input (batch, 3, points); logits (batch, classes) and the feature transform."""

    def __init__(self, sizes: PointNetSizes) -> None:
        super().__init__()
        width = sizes.width
        self.turn_points = Transform(3, width)
        self.first = _points(3, width, width)
        self.turn_features = Transform(width, width)
        self.second = _points(width, width, 2 * width, 16 * width)
        self.dense = _dense(16 * width, 8 * width, 4 * width)
        self.dropout = nn.Dropout(0.3)
        self.last = nn.Linear(4 * width, sizes.classes)

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.first(torch.bmm(self.turn_points(points), points))
        turn = self.turn_features(features)
        overall = self.second(torch.bmm(turn, features)).amax(-1)
        return self.last(self.dropout(self.dense(overall))), turn


@dataclass(eq=False)
class PointNetWorkload(ModelWorkload[PointNetSizes]):
    """Classification; the outcome is the loss."""

    def network(self, sizes: PointNetSizes) -> nn.Module:
        return PointNet(sizes)

    def batches(
        self, sizes: PointNetSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        generator = torch.Generator().manual_seed(seed)
        shape = (BATCHES, sizes.batch, 3, sizes.points)
        points = nn.functional.normalize(torch.randn(shape, generator=generator), dim=2)
        labels = torch.randint(sizes.classes, shape[:2], generator=generator)
        return [
            {"points": some, "labels": called}
            for some, called in zip(points.to(device), labels.to(device), strict=True)
        ]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits, turn = model(batch["points"])
        identity = torch.eye(turn.shape[-1], device=turn.device, dtype=turn.dtype)
        bent = (torch.bmm(turn, turn.transpose(1, 2)) - identity).square().sum((1, 2)).mean()
        loss: torch.Tensor = nn.functional.cross_entropy(logits, batch["labels"])
        return loss + _ORTHOGONAL * bent

    def work(self, sizes: PointNetSizes) -> Work:
        return Work(sizes.batch, "objects")


def workloads() -> Iterator[Workload]:
    yield PointNetWorkload(
        "pointnet",
        "train",
        {
            "quick": PointNetSizes(8, 256, width=16),
            "standard": PointNetSizes(8),
            "paper": PointNetSizes(128),
        },
        "Qi et al. (CVPR 2017), section 5.1 and appendix C, ModelNet40 shapes; batch 128 as in "
        "Tally (ASPLOS 2025)",
        optimizer=adam(lr=1e-3),
    )
