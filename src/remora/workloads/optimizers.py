"""The optimizers that workloads train with, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch


@dataclass(frozen=True)
class OptimizerSpec:
    """A class of ``torch.optim`` by name, and its settings."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        made: torch.optim.Optimizer = getattr(torch.optim, self.kind)(trained, **self.settings)
        return made

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({settings})"


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> OptimizerSpec:
    return OptimizerSpec("SGD", {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})


def adam(lr: float) -> OptimizerSpec:
    return OptimizerSpec("Adam", {"lr": lr})


def adamw(lr: float, weight_decay: float = 0.01) -> OptimizerSpec:
    return OptimizerSpec("AdamW", {"lr": lr, "weight_decay": weight_decay})


def adadelta(lr: float) -> OptimizerSpec:
    return OptimizerSpec("Adadelta", {"lr": lr})
