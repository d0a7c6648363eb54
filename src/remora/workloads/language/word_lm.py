"""A small transformer trained to predict WikiText-2's next word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from remora.workloads.contract import Work, Workload
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import sgd
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens


@dataclass(frozen=True)
class WordSizes:
    batch: int = 20
    sequence: int = 35
    layers: int = 2
    width: int = 200
    heads: int = 2
    hidden: int = 200
    vocabulary: int = 33278


class WordTransformer(nn.Module):
    """Words (batch, sequence) to logits (batch, sequence, vocabulary), looking back only.

    Positions are the sinusoids of Vaswani et al. 2017, section 3.5.
    """

    positions: torch.Tensor
    unseen: torch.Tensor

    def __init__(self, sizes: WordSizes, dropout: float = 0.2) -> None:
        super().__init__()
        self.scale = math.sqrt(sizes.width)
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            sizes.width, sizes.heads, sizes.hidden, dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(sizes.width, sizes.vocabulary)
        self.register_buffer("positions", sinusoids(torch.arange(sizes.sequence), sizes.width))
        unseen = nn.Transformer.generate_square_subsequent_mask(sizes.sequence)
        self.register_buffer("unseen", unseen, persistent=False)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        embedded = self.dropout(self.embedding(words) * self.scale + self.positions)
        logits: torch.Tensor = self.decoder(
            self.encoder(embedded, mask=self.unseen, is_causal=True)
        )
        return logits


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """(positions, width): sines of geometrically falling frequency, then their cosines."""
    half = torch.arange(0, width, 2, device=positions.device)
    angles = positions[:, None] * torch.exp(half * (-math.log(10000.0) / width))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@dataclass(eq=False)
class WordWorkload(ModelWorkload[WordSizes]):
    """Predict each word from those before it; the outcome is the cross entropy."""

    weight_std: float | None = 0.05

    def network(self, sizes: WordSizes) -> nn.Module:
        return WordTransformer(sizes)

    def batches(
        self, sizes: WordSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence + 1)
        ids = tokens(shape, sizes.vocabulary, device, seed, data)
        return [{"words": words[:, :-1], "next": words[:, 1:]} for words in ids]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = model(batch["words"])
        return cross_entropy(logits.flatten(0, 1), batch["next"].flatten())

    def work(self, sizes: WordSizes) -> Work:
        return Work(sizes.batch * sizes.sequence, "tokens")


def workloads() -> Iterator[Workload]:
    yield WordWorkload(
        "word-lm",
        "train",
        {
            "quick": WordSizes(batch=8, vocabulary=4096),
            "standard": WordSizes(),
            "paper": WordSizes(),
        },
        "WikiText-2 shapes: width 200, 2 heads, 2 layers, batch 20, 35 words back, "
        "as in TrainCheck (OSDI 2025)",
        optimizer=sgd(lr=0.5),
    )
