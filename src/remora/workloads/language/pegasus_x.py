"""PEGASUS-X trained to summarise long texts: Phang et al. 2022."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from remora.workloads.contract import Workload
from remora.workloads.language.pretrained import from_config
from remora.workloads.language.summarising import SummarySizes, SummaryWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch


@dataclass(frozen=True)
class PegasusSizes(SummarySizes):
    """A text is whole blocks."""

    vocabulary: int = 96103
    block: int = 512
    """Tokens that attend to each other, beside the global ones."""


@dataclass(eq=False)
class PegasusWorkload(SummaryWorkload[PegasusSizes]):
    """Write a summary, given a long text; the outcome is the cross entropy of its tokens."""

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

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = model(
            input_ids=batch["text"], labels=batch["summary"], use_cache=False
        ).loss
        return loss


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
