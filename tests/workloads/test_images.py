"""Images, drawn and read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from remora.core.errors import BadValue
from remora.workloads import registry
from remora.workloads.images import ImageShape, image_batches

pillow = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")
CPU = torch.device("cpu")
SHAPE = ImageShape(count=2, batch=3, channels=3, side=8, classes=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes: three white squares, two black ones."""
    for name, colour, count in (("black", 0, 2), ("white", 255, 3)):
        (tmp_path / name).mkdir()
        for index in range(count):
            image = pillow.new("RGB", (20, 10), (colour, colour, colour))
            image.save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_images_are_resized_normalised_and_labelled(folder: Path) -> None:
    white = [(1 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    batches = image_batches(SHAPE, CPU, 0, folder)
    assert [tuple(batch["images"].shape) for batch in batches] == [(3, 3, 8, 8)] * 2
    labels = torch.cat([batch["labels"] for batch in batches])
    assert set(labels.tolist()) == {0, 1}
    for image, label in zip(torch.cat([b["images"] for b in batches]), labels, strict=True):
        pixel = image[:, 0, 0]
        if label == 1:
            torch.testing.assert_close(pixel, torch.tensor(white))
        else:
            assert (pixel < -1.7).all()


def test_the_seed_decides_the_order(folder: Path) -> None:
    first, again = (image_batches(SHAPE, CPU, 5, folder) for _ in range(2))
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, again, strict=True))


def test_a_folder_trains_a_model(folder: Path) -> None:
    for name in ("vgg16-train", "mnist-cnn-train", "clip-vit-b32-forward"):
        session = registry.get(name).build("quick", CPU, data=folder)
        assert torch.isfinite(session.step().tensor).all()


def test_too_many_classes_are_refused(folder: Path) -> None:
    with pytest.raises(BadValue, match="has 2 classes, the model 1"):
        image_batches(ImageShape(1, 1, 3, 8, classes=1), CPU, 0, folder)


def test_a_damaged_image_is_named(folder: Path) -> None:
    (folder / "black" / "0.png").write_bytes(b"not an image")
    with pytest.raises(BadValue, match=r"0\.png' cannot be read") as refusal:
        image_batches(SHAPE, CPU, 0, folder)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_images_or_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="has no subfolders"):
        image_batches(SHAPE, CPU, 0, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadValue, match="has no images"):
        image_batches(SHAPE, CPU, 0, tmp_path)
    with pytest.raises(BadValue, match="does not exist"):
        image_batches(SHAPE, CPU, 0, tmp_path / "absent")


@pytest.mark.parametrize("name", ["whisper-tiny-train", "micro-conv-forward"])
def test_models_without_a_reader_say_so(name: str, tmp_path: Path) -> None:
    importlib.import_module("transformers")
    with pytest.raises(BadValue, match="leave out --data"):
        registry.get(name).build("quick", CPU, data=tmp_path)
