"""BERT fine-tuned to classify texts: Devlin et al. 2019."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from remora.workloads.contract import Work, Workload
from remora.workloads.language.bert import BertSizes, bert
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.text import tokens

_CLASSES = 2


@dataclass(eq=False)
class BertClassification(ModelWorkload[BertSizes]):
    """Whether each of a batch of texts is of a kind; the outcome is the cross entropy."""

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: BertSizes) -> torch.nn.Module:
        return bert("BertForSequenceClassification", sizes, num_labels=_CLASSES)

    def batches(
        self, sizes: BertSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        shape = (BATCHES, sizes.batch, sizes.sequence)
        ids = tokens(shape, sizes.vocabulary, device, seed, data)
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(_CLASSES, shape[:2], generator=generator).to(device)
        return [{"ids": ids[index], "labels": labels[index]} for index in range(BATCHES)]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=batch["ids"], labels=batch["labels"]).loss
        return loss

    def work(self, sizes: BertSizes) -> Work:
        return Work(sizes.batch * sizes.sequence, "tokens")


def workloads() -> Iterator[Workload]:
    base = (12, 768, 12)
    yield BertClassification(
        "bert-classification",
        "train",
        {
            "quick": BertSizes(2, 32, 2, 128, 4, 4096, 128),
            "standard": BertSizes(4, 128, *base),
            "paper": BertSizes(16, 128, *base),
        },
        "Devlin et al. (2019), section 4.1: two classes, BERT base; batch 16 as in TrainCheck "
        "(OSDI 2025), sequences of 128 as in the authors' fine-tuning",
        optimizer=adamw(lr=2e-5),
    )
