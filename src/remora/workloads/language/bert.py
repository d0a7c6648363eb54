"""BERT: Devlin et al. 2019, pretrained on masked words, or encoding text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from remora.workloads.contract import Mode, Scale, Work, Workload
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens

_MASKED_SHARE = 0.15
_MASK_TOKEN = 103
_IGNORED = -100
"""The label that the loss passes over."""


@dataclass(frozen=True)
class BertSizes:
    batch: int
    sequence: int
    layers: int
    width: int
    heads: int
    vocabulary: int = 30522
    positions: int = 512


def bert(kind: str, sizes: BertSizes, **more: int) -> torch.nn.Module:
    """BERT with the head that the class ``kind`` of transformers puts on it."""
    config = {
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.width,
        "num_attention_heads": sizes.heads,
        "intermediate_size": 4 * sizes.width,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "pad_token_id": None,
        **more,
    }
    return from_config("BertConfig", kind, config)


@dataclass(eq=False)
class BertWorkload(ModelWorkload[BertSizes]):
    """Masked-word training (the loss), or encoding: hidden states (batch, sequence, width).

    Of every sequence 15 % of the words are masked (section 3.1; here all by the mask token).
    """

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: BertSizes) -> torch.nn.Module:
        return bert("BertForMaskedLM" if self.mode == "train" else "BertModel", sizes)

    def batches(
        self, sizes: BertSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence)
        words = tokens(shape, sizes.vocabulary, torch.device("cpu"), seed, data)
        generator = torch.Generator().manual_seed(seed)
        masked = torch.rand(shape, generator=generator) < _MASKED_SHARE
        ids = words.masked_fill(masked, _MASK_TOKEN).to(device)
        labels = words.masked_fill(~masked, _IGNORED).to(device)
        return [{"ids": ids[index], "labels": labels[index]} for index in range(BATCHES)]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        result: torch.Tensor
        if self.mode == "train":
            result = model(input_ids=batch["ids"], labels=batch["labels"]).loss
        else:
            result = model(input_ids=batch["ids"]).last_hidden_state
        return result

    def work(self, sizes: BertSizes) -> Work:
        return Work(sizes.batch * sizes.sequence, "tokens")


_PUBLISHED: Mapping[tuple[str, Mode], tuple[int, int, str]] = {
    ("bert-base", "train"): (32, 128, "batch 32 as in Tally (ASPLOS 2025), sequences of A.2"),
    ("bert-base", "forward"): (1, 128, "batch 1 as in Tally's inference, sequences of A.2"),
    ("bert-large", "train"): (3, 512, "batch 3 as in PCcheck (ASPLOS 2025), sequences of A.2"),
    ("bert-large", "forward"): (1, 128, "batch 1 as in Tally's inference, sequences of A.2"),
}
_ARCHITECTURES = {"bert-base": (12, 768, 12), "bert-large": (24, 1024, 16)}
_QUICK_LAYERS = {"bert-base": 4, "bert-large": 6}


def workloads() -> Iterator[Workload]:
    for (model, mode), (batch, sequence, source) in _PUBLISHED.items():
        architecture = _ARCHITECTURES[model]
        quick_sequence = 64 if mode == "train" else 128
        table: dict[Scale, BertSizes] = {
            "quick": BertSizes(1, quick_sequence, _QUICK_LAYERS[model], 256, 4, 4096, 128),
            "standard": BertSizes(1, 128, *architecture),
            "paper": BertSizes(batch, sequence, *architecture),
        }
        yield BertWorkload(
            model,
            mode,
            table,
            f"Devlin et al. (2019), section 3; {source}",
            optimizer=adamw(lr=1e-4) if mode == "train" else None,
        )
