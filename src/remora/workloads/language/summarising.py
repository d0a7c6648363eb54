"""What models that are trained to summarise have in common: a text, and a summary to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from remora.workloads.contract import Work
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens


@dataclass(frozen=True)
class SummarySizes:
    batch: int
    sequence: int
    """Tokens of a text."""
    summary: int
    """Tokens of what is to be written about it."""
    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    heads: int
    vocabulary: int


S = TypeVar("S", bound=SummarySizes)


@dataclass(eq=False)
class SummaryWorkload(ModelWorkload[S]):
    """Write a summary, given a text; the outcome is the cross entropy of the summary's tokens."""

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def batches(
        self, sizes: S, device: torch.device, seed: int, data: Path | None
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

    def work(self, sizes: S) -> Work:
        return Work(sizes.batch * (sizes.sequence + sizes.summary), "tokens")
