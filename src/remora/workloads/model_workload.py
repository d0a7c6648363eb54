"""A workload made of parts: a network, its batches, what to compute on them, an optimizer."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch

from remora.core.errors import BadValue, Unavailable
from remora.workloads.contract import SCALES, Footprint, Mode, Scale, Session, Work, Workload
from remora.workloads.fast_init import build_seeded
from remora.workloads.optimizers import OptimizerSpec
from remora.workloads.rehearsal import rehearse
from remora.workloads.sessions import Batch, ForwardSession, TrainSession
from remora.workloads.weights import load_weights

SizesT = TypeVar("SizesT")

BATCHES = 4
"""Batches in the fixed cycle: enough that data differ from step to step, few enough to hold."""


@dataclass(eq=False)
class ModelWorkload(Workload, Generic[SizesT]):
    """One model under one mode; ``table`` holds the sizes (a dataclass) of every scale."""

    model: str
    mode: Mode
    table: Mapping[Scale, SizesT]
    source: str
    optimizer: OptimizerSpec | None = None
    """What ``train`` trains with."""

    def __post_init__(self) -> None:
        self.name = f"{self.model}-{self.mode}"

    # ------------------------------------------------- what a family of models fills in

    weight_std: float | None = None
    """Standard deviation of the weights; None scales each by its fan-in."""

    @abstractmethod
    def network(self, sizes: SizesT) -> torch.nn.Module:
        """Construct the model; the device and the weights are the caller's."""

    @abstractmethod
    def batches(
        self, sizes: SizesT, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        """:data:`BATCHES` batches on ``device``, drawn from ``seed`` or read from ``data``."""

    @abstractmethod
    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The loss in mode ``train``, else the output."""

    @abstractmethod
    def work(self, sizes: SizesT) -> Work:
        """How much one step does."""

    def dtype(self, sizes: SizesT) -> torch.dtype:
        """The type of the weights."""
        return torch.float32

    def session(
        self,
        network: torch.nn.Module,
        sizes: SizesT,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        """The session that steps ``network``."""
        batches = self.batches(sizes, device, seed, data)
        work = self.work(sizes)
        if self.optimizer is None:
            return ForwardSession(network, self.apply, batches, work=work, device=device)
        optimizer = self.optimizer.make(network.parameters())
        return TrainSession(
            network, optimizer, self.apply, batches, work=work, device=device, seed=seed
        )

    # ------------------------------------------------- the contract

    def sizes(self, scale: Scale) -> Mapping[str, int | str]:
        sizes = self._at(scale)
        values = {field.name: getattr(sizes, field.name) for field in fields(cast(Any, sizes))}
        shown = {name: value for name, value in values.items() if value}
        return shown | ({} if self.optimizer is None else {"optimizer": str(self.optimizer)})

    def footprint(self, scale: Scale) -> Footprint:
        return rehearse(self, scale)

    def build(
        self,
        scale: Scale,
        device: torch.device,
        *,
        seed: int = 0,
        data: Path | None = None,
        weights: Path | None = None,
    ) -> Session:
        """As the contract says; ``weights`` is a local ``.safetensors`` file or folder of them."""
        sizes = self._at(scale)
        self._require_packages()
        network = build_seeded(
            lambda: self.network(sizes),
            device,
            seed=seed,
            std=self.weight_std,
            dtype=self.dtype(sizes),
        )
        if weights is not None:
            load_weights(network, weights)
        return self.session(network, sizes, device, seed, data)

    def module(self, scale: Scale) -> torch.nn.Module:
        """The model by itself, with the weights that its constructor gives it."""
        self._require_packages()
        return self.network(self._at(scale))

    def _at(self, scale: Scale) -> SizesT:
        if scale not in self.table:
            raise BadValue(f"unknown scale {scale!r}; choose from: {', '.join(SCALES)}")
        return self.table[scale]

    def _require_packages(self) -> None:
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise Unavailable(
                    f"{self.name} needs {package}, which is not installed; "
                    "run: pip install 'remora[models]'"
                )
