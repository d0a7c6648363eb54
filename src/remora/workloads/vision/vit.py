"""The vision transformer: Dosovitskiy et al. 2021."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from remora.workloads.contract import Workload
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.vision.workload import VisionWorkload


@dataclass(frozen=True)
class VitSizes:
    batch: int
    layers: int
    width: int
    heads: int
    image: int = 224
    patch: int = 16
    channels: int = 3
    classes: int = 1000

    def network(self) -> torch.nn.Module:
        config = {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width,
            "image_size": self.image,
            "patch_size": self.patch,
            "num_channels": self.channels,
            "num_labels": self.classes,
        }
        return from_config("ViTConfig", "ViTForImageClassification", config)


@dataclass(eq=False)
class VitWorkload(VisionWorkload):
    """As every image classifier; the class in transformers says its logits by name."""

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = model(pixel_values=batch["images"]).logits
        return cross_entropy(logits, batch["labels"]) if self.mode == "train" else logits


def workloads() -> Iterator[Workload]:
    yield VitWorkload(
        "vit",
        "train",
        {
            "quick": VitSizes(2, 4, 128, 4, image=64),
            "standard": VitSizes(2, 12, 768, 12),
            "paper": VitSizes(8, 12, 768, 12),
        },
        "ViT-B/16: Dosovitskiy et al. (ICLR 2021), table 1, ImageNet shapes; batch 8 as for image "
        "classification in TrainCheck (OSDI 2025)",
        optimizer=adamw(lr=5e-5),
    )
