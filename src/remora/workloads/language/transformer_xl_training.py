"""Training Transformer-XL on WikiText-103's shapes, segment after segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from remora.core.errors import BadValue
from remora.workloads.contract import Session, Work, Workload
from remora.workloads.language.transformer_xl import (
    CLUSTERS,
    TransformerXl,
    XlSizes,
    split_targets,
)
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch, TrainSession
from remora.workloads.text import tokens

_TARGETS = (
    "head",
    *(f"cluster{index}{part}" for index in range(CLUSTERS) for part in ("_at", "")),
)


class SegmentLoss:
    """The loss of the next segment; keeps the memory from one segment to the next."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.memory = cast(TransformerXl, model).empty_memory()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        targets = tuple(batch[name] for name in _TARGETS)
        loss: torch.Tensor
        loss, self.memory = model(batch["words"], targets, self.memory)
        return loss


class SegmentSession(TrainSession):
    """Training whose memory of the segment before is part of its state."""

    _loss: SegmentLoss

    def state(self) -> dict[str, Any]:
        return {**super().state(), "memory": list(self._loss.memory)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._loss.memory = tuple(kept.to(self.device) for kept in state["memory"])


@dataclass(eq=False)
class XlWorkload(ModelWorkload[XlSizes]):
    """Predict the words of segments that follow one another in the cycle of batches."""

    weight_std: float | None = 0.02

    def network(self, sizes: XlSizes) -> torch.nn.Module:
        return TransformerXl(sizes)

    def batches(
        self, sizes: XlSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        # One stream of text per row of the batch, cut into segments.
        shape = (sizes.batch, BATCHES * sizes.sequence + 1)
        stream = tokens(shape, sizes.vocabulary, torch.device("cpu"), seed, data)
        batches = []
        for start in range(0, BATCHES * sizes.sequence, sizes.sequence):
            words = stream[:, start : start + sizes.sequence].contiguous()
            following = stream[:, start + 1 : start + sizes.sequence + 1].flatten()
            targets = zip(_TARGETS, split_targets(following, sizes), strict=True)
            batch = {"words": words, **dict(targets)}
            batches.append({name: tensor.to(device) for name, tensor in batch.items()})
        return batches

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of a segment that nothing came before."""
        return SegmentLoss(model)(model, batch)

    def session(
        self,
        network: torch.nn.Module,
        sizes: XlSizes,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        if self.optimizer is None:
            raise BadValue(f"{self.name} has no optimizer to train with")
        return SegmentSession(
            network,
            self.optimizer.make(network.parameters()),
            SegmentLoss(network),
            self.batches(sizes, device, seed, data),
            work=self.work(sizes),
            device=device,
            seed=seed,
        )

    def work(self, sizes: XlSizes) -> Work:
        return Work(sizes.batch * sizes.sequence, "tokens")


def workloads() -> Iterator[Workload]:
    base = {"layers": 16, "width": 410, "heads": 10, "head_width": 41, "hidden": 2100}
    words = {"vocabulary": 267735, "frequent": 20000, "common": 40000, "rare": 200000}
    yield XlWorkload(
        "transformer-xl",
        "train",
        {
            "quick": XlSizes(2, 32, 32, 4, 160, 4, 40, 640, 8192, 1024, 2048, 6144),
            "standard": XlSizes(2, 64, 64, **base, **words),
            "paper": XlSizes(64, 150, 150, **base, **words),
        },
        "Dai et al. (ACL 2019), the authors' WikiText-103 base setting; "
        "batch 64 as in PCcheck (ASPLOS 2025), figure 8",
        optimizer=adam(lr=2.5e-4),
    )
