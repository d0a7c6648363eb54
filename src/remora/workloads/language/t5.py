"""T5 trained to summarise: Raffel et al. 2020."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from remora.workloads.contract import Workload
from remora.workloads.language.pretrained import from_config
from remora.workloads.language.summarising import SummarySizes, SummaryWorkload
from remora.workloads.optimizers import adamw


@dataclass(frozen=True)
class T5Sizes(SummarySizes):
    vocabulary: int = 32128


@dataclass(eq=False)
class T5Workload(SummaryWorkload[T5Sizes]):
    """Write a summary, given a text; the outcome is the cross entropy of the summary's tokens."""

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
