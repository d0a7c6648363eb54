"""T5 trained to summarise: Raffel et al. 2020."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from remora.workloads.contract import Work, Workload
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens


@dataclass(frozen=True)
class T5Sizes:
    batch: int
    sequence: int
    """Tokens of a text."""
    summary: int
    """Tokens of what is to be written about it."""
    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    heads: int
    vocabulary: int = 32128


@dataclass(eq=False)
class T5Workload(ModelWorkload[T5Sizes]):
    """Write a summary, given a text; the outcome is the cross entropy of the summary's tokens."""

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: T5Sizes) -> torch.nn.Module:
        config = {
            "num_layers": sizes.layers,
            "d_model": sizes.width,
            "d_kv": sizes.width // sizes.heads,
            "d_ff": 4 * sizes.width,
            "num_heads": sizes.heads,
            "vocab_size": sizes.vocabulary,
            "decoder_start_token_id": 0,
        }
        return from_config("T5Config", "T5ForConditionalGeneration", config)

    def batches(
        self, sizes: T5Sizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence + sizes.summary)
        ids = tokens(shape, sizes.vocabulary, device, seed, data)
        texts, summaries = ids.split([sizes.sequence, sizes.summary], dim=-1)
        return [
            {"text": text, "summary": summary.contiguous()}
            for text, summary in zip(texts, summaries, strict=True)
        ]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=batch["text"], labels=batch["summary"]).loss
        return loss

    def work(self, sizes: T5Sizes) -> Work:
        return Work(sizes.batch * (sizes.sequence + sizes.summary), "tokens")


def workloads() -> Iterator[Workload]:
    yield T5Workload(
        "t5-base",
        "train",
        {
            "quick": T5Sizes(1, 32, 16, 2, 128, 4, 4096),
            "standard": T5Sizes(1, 128, 32, 12, 768, 12),
            "paper": T5Sizes(16, 1024, 128, 12, 768, 12),
        },
        "Raffel et al. (JMLR 2020), section 2.1 and 3.1.1; batch 16 as for summarisation in "
        "TrainCheck (OSDI 2025); texts of 1024 and summaries of 128 tokens as in transformers' "
        "example",
        optimizer=adamw(lr=5e-5),
    )
