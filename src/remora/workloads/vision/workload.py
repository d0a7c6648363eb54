"""Image classification: a network, images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy

from remora.workloads.contract import Work
from remora.workloads.images import ImageShape, image_batches
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch


class VisionSizes(Protocol):
    """What the sizes of every image model tell; each family adds its own widths."""

    @property
    def batch(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def image(self) -> int: ...
    @property
    def classes(self) -> int: ...
    def network(self) -> torch.nn.Module: ...


@dataclass(eq=False)
class VisionWorkload(ModelWorkload[VisionSizes]):
    """Classify images: cross entropy in mode ``train``, logits in mode ``forward``."""

    def network(self, sizes: VisionSizes) -> torch.nn.Module:
        return sizes.network()

    def batches(
        self, sizes: VisionSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = ImageShape(BATCHES, sizes.batch, sizes.channels, sizes.image, sizes.classes)
        return image_batches(shape, device, seed, data)

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = model(batch["images"])
        return cross_entropy(logits, batch["labels"]) if self.mode == "train" else logits

    def work(self, sizes: VisionSizes) -> Work:
        return Work(sizes.batch, "images")
