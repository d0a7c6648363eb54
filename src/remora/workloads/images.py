"""Batches of images: drawn, or read from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ImageShape:
    """``count`` batches of ``batch`` images, each ``channels`` × ``side`` × ``side``."""

    count: int
    batch: int
    channels: int
    side: int
    classes: int


def draw_images(
    shape: ImageShape, device: torch.device, seed: int
) -> Sequence[dict[str, torch.Tensor]]:
    """Normal pixels (as ImageNet's are after normalisation) and uniform labels.

    Drawn on the host, so that a seed gives the same batches on every device.
    """
    if device.type == "meta":
        device_of_draw, generator = device, None
    else:
        device_of_draw, generator = torch.device("cpu"), torch.Generator().manual_seed(seed)
    size = (shape.batch, shape.channels, shape.side, shape.side)
    batches = []
    for _ in range(shape.count):
        images = torch.randn(size, generator=generator, device=device_of_draw)
        labels = torch.randint(
            shape.classes, (shape.batch,), generator=generator, device=device_of_draw
        )
        batches.append({"images": images.to(device), "labels": labels.to(device)})
    return batches
