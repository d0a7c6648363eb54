"""PEGASUS-X trained to summarise long texts: Phang et al. 2022."""

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
class PegasusSizes:
    batch: int
    sequence: int
    """Tokens of a text: whole blocks."""
    summary: int
    """Tokens of what is to be written about it."""
    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    heads: int
    block: int = 512
    """Tokens that attend to each other, beside the global ones."""
    vocabulary: int = 96103


@dataclass(eq=False)
class PegasusWorkload(ModelWorkload[PegasusSizes]):
    """Write a summary, given a long text; the outcome is the cross entropy of its tokens."""

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: PegasusSizes) -> torch.nn.Module:
        config = {
            "encoder_layers": sizes.layers,
            "decoder_layers": sizes.layers,
            "d_model": sizes.width,
            "encoder_attention_heads": sizes.heads,
            "decoder_attention_heads": sizes.heads,
            "encoder_ffn_dim": 4 * sizes.width,
            "decoder_ffn_dim": 4 * sizes.width,
            "vocab_size": sizes.vocabulary,
            "block_size": sizes.block,
        }
        return from_config("PegasusXConfig", "PegasusXForConditionalGeneration", config)

    def batches(
        self, sizes: PegasusSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence + sizes.summary)
        ids = tokens(shape, sizes.vocabulary, device, seed, data)
        texts, summaries = ids.split([sizes.sequence, sizes.summary], dim=-1)
        return [
            {"text": text, "summary": summary.contiguous()}
            for text, summary in zip(texts, summaries, strict=True)
        ]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = model(
            input_ids=batch["text"], labels=batch["summary"], use_cache=False
        ).loss
        return loss

    def work(self, sizes: PegasusSizes) -> Work:
        return Work(sizes.batch * (sizes.sequence + sizes.summary), "tokens")


def workloads() -> Iterator[Workload]:
    yield PegasusWorkload(
        "pegasus-x-base",
        "train",
        {
            "quick": PegasusSizes(1, 64, 16, 2, 128, 4, block=32, vocabulary=4096),
            "standard": PegasusSizes(1, 1024, 64, 12, 768, 12),
            "paper": PegasusSizes(4, 4096, 256, 12, 768, 12),
        },
        "Phang et al. (2022), section 4, PEGASUS-X base; batch 4 as in Tally (ASPLOS 2025); "
        "texts of 4096 tokens as its pretraining is extended to, the summary's length is ours",
        optimizer=adamw(lr=1e-4),
    )
