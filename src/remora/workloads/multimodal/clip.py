"""CLIP ViT-B/32 answering questions about images: Radford et al. 2021."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
import xxhash

from remora.workloads.contract import Work, Workload
from remora.workloads.images import ImageShape, class_names, image_batches
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch
from remora.workloads.text import draw_tokens

_QUESTION = "question: what does this picture show? answer:"


@dataclass(frozen=True)
class ClipSizes:
    batch: int
    """Images, each with its own question."""
    answers: int
    """Candidate answers to each question."""
    image: int
    patch: int
    image_layers: int
    image_width: int
    image_heads: int
    text_layers: int
    text_width: int
    text_heads: int
    projection: int
    vocabulary: int
    sequence: int
    """Tokens of a question with an answer."""


@dataclass(eq=False)
class ClipWorkload(ModelWorkload[ClipSizes]):
    """Scores every candidate answer against the image: (batch, answers), higher fits better.

    A candidate is the question followed by an answer, ended by the end-of-text token. Given a
    folder of images, the candidate answers are the names of its classes; words become ids by
    their hash, there being no vocabulary to read.
    """

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: ClipSizes) -> torch.nn.Module:
        text = {
            "num_hidden_layers": sizes.text_layers,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_attention_heads": sizes.text_heads,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.sequence,
            "eos_token_id": sizes.vocabulary - 1,
            "bos_token_id": None,
            "pad_token_id": None,
        }
        vision = {
            "num_hidden_layers": sizes.image_layers,
            "hidden_size": sizes.image_width,
            "intermediate_size": 4 * sizes.image_width,
            "num_attention_heads": sizes.image_heads,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
        }
        config = {
            "text_config": text,
            "vision_config": vision,
            "projection_dim": sizes.projection,
        }
        return from_config("CLIPConfig", "CLIPModel", config)

    def batches(
        self, sizes: ClipSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        # Any number of classes will do: labels are not read.
        shape = ImageShape(BATCHES, sizes.batch, 3, sizes.image, classes=2**31)
        texts = _drawn(sizes, seed) if data is None else _written(sizes, class_names(data))
        return [
            {"images": batch["images"], "texts": text.to(device)}
            for batch, text in zip(image_batches(shape, device, seed, data), texts, strict=True)
        ]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        images: torch.Tensor = batch["images"]
        scores: torch.Tensor = model(input_ids=batch["texts"], pixel_values=images).logits_per_image
        # Every image is scored against every text; keep each image's own questions.
        by_question = scores.reshape(len(images), len(images), -1)
        return by_question.diagonal(dim1=0, dim2=1).mT

    def work(self, sizes: ClipSizes) -> Work:
        return Work(sizes.batch, "questions")


def _drawn(sizes: ClipSizes, seed: int) -> torch.Tensor:
    """Per batch: (batch × answers, sequence). Candidates of one image share the question."""
    shape = (BATCHES, sizes.batch, sizes.answers, sizes.sequence)
    ids = draw_tokens(shape, sizes.vocabulary - 1, seed)
    question = 3 * sizes.sequence // 4
    ids[..., :question] = ids[..., :1, :question]
    ids[..., -1] = sizes.vocabulary - 1
    return ids.flatten(1, 2)


def _written(sizes: ClipSizes, answers: Sequence[str]) -> torch.Tensor:
    rows = [
        _ids(f"{_QUESTION} {answer}", sizes) for answer in islice(cycle(answers), sizes.answers)
    ]
    return torch.tensor(rows).repeat(sizes.batch, 1).expand(BATCHES, -1, -1)


def _ids(text: str, sizes: ClipSizes) -> list[int]:
    end = sizes.vocabulary - 1
    ids = [xxhash.xxh32_intdigest(word.encode()) % end for word in text.replace("_", " ").split()]
    room = sizes.sequence - 1
    return ids[:room] + [end] * (sizes.sequence - len(ids[:room]))


def workloads() -> Iterator[Workload]:
    vit_b32 = {"image": 224, "patch": 32, "image_layers": 12, "image_width": 768, "image_heads": 12}
    text = {"text_layers": 12, "text_width": 512, "text_heads": 8, "projection": 512}
    full = ClipSizes(batch=1, answers=8, vocabulary=49408, sequence=77, **vit_b32, **text)
    quick = ClipSizes(
        batch=1,
        answers=4,
        image=128,
        patch=32,
        image_layers=4,
        image_width=256,
        image_heads=4,
        text_layers=4,
        text_width=128,
        text_heads=4,
        projection=128,
        vocabulary=4096,
        sequence=32,
    )
    yield ClipWorkload(
        "clip-vit-b32",
        "forward",
        {"quick": quick, "standard": full, "paper": full},
        "Radford et al. (ICML 2021), table 19 and section 2.4; visual question answering as in "
        "Genie's multimodal benchmark, whose 8 candidate answers are our reading",
    )
