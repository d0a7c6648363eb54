"""Batches of images: drawn, or read from a folder with a subfolder for each class."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy
import torch

from remora.core.errors import BadValue, Unavailable
from remora.workloads.sessions import Batch

_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's per-channel statistics, by which published ImageNet training normalises."""


@dataclass(frozen=True)
class ImageShape:
    """``count`` batches of ``batch`` images, each ``channels`` × ``side`` × ``side``."""

    count: int
    batch: int
    channels: int
    side: int
    classes: int


def image_batches(
    shape: ImageShape, device: torch.device, seed: int, data: Path | None
) -> list[Batch]:
    """Batches of ``images`` (batch, channels, side, side) and ``labels`` (batch,) on ``device``."""
    if device.type == "meta":
        return _without_data(shape)
    generated = _drawn(shape, seed) if data is None else _read(data, shape, seed)
    return [
        {"images": images.to(device), "labels": labels.to(device)} for images, labels in generated
    ]


def class_names(folder: Path) -> list[str]:
    """The names of the classes in ``folder``: its subfolders, sorted.

    Raises:
        BadValue: it is no folder, or has no subfolders.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BadValue(f"data {str(folder)!r} {what}; {_FORM}")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise BadValue(f"data {str(folder)!r} has no subfolders; {_FORM}")
    return names


_FORM = "an image model reads a folder with one subfolder of images for each class"


def _without_data(shape: ImageShape) -> list[Batch]:
    size = (shape.batch, shape.channels, shape.side, shape.side)
    return [
        {
            "images": torch.empty(size, dtype=torch.float32, device="meta"),
            "labels": torch.empty(shape.batch, dtype=torch.int64, device="meta"),
        }
        for _ in range(shape.count)
    ]


def _drawn(shape: ImageShape, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normal pixels, as ImageNet's are once normalised, and uniform labels; drawn on the host."""
    generator = torch.Generator().manual_seed(seed)
    size = (shape.batch, shape.channels, shape.side, shape.side)
    for _ in range(shape.count):
        images = torch.randn(size, generator=generator)
        yield images, torch.randint(shape.classes, (shape.batch,), generator=generator)


def _read(
    folder: Path, shape: ImageShape, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """As many images as are wanted, in an order shuffled by ``seed``; a small folder is cycled."""
    files = _labelled_files(folder, shape.classes)
    random.Random(seed).shuffle(files)
    stream = cycle(files)
    for _ in range(shape.count):
        chosen = list(islice(stream, shape.batch))
        images = torch.stack([_read_image(file, shape) for file, _ in chosen])
        yield images, torch.tensor([label for _, label in chosen])


def _labelled_files(folder: Path, classes: int) -> list[tuple[Path, int]]:
    names = class_names(folder)
    if len(names) > classes:
        raise BadValue(
            f"data {str(folder)!r} has {len(names)} classes, the model {classes}; "
            f"leave at most {classes} subfolders"
        )
    files = [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise BadValue(f"data {str(folder)!r} has no images in its subfolders; {_FORM}")
    return files


def _read_image(file: Path, shape: ImageShape) -> torch.Tensor:
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise Unavailable("reading images needs Pillow; run: pip install pillow") from error
    try:
        with pillow.open(file) as opened:
            colour = opened.convert("RGB" if shape.channels == 3 else "L")
            pixels = numpy.asarray(colour.resize((shape.side, shape.side)), dtype=numpy.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadValue(
            f"image {str(file)!r} cannot be read ({error}); replace it or take it out of the folder"
        ) from error
    return _normalised(torch.from_numpy(pixels.copy()) / 255, shape.channels)


def _normalised(pixels: torch.Tensor, channels: int) -> torch.Tensor:
    """From (side, side[, 3]) in 0 to 1, to (channels, side, side) of about unit variance."""
    if channels == 1:
        return ((pixels - sum(_MEAN) / 3) / (sum(_STD) / 3)).unsqueeze(0)
    return ((pixels - torch.tensor(_MEAN)) / torch.tensor(_STD)).permute(2, 0, 1).contiguous()
