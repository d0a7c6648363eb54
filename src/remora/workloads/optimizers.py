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
        settings = dict(self.settings)
        if any(parameter.is_meta for parameter in trained):
            settings.pop("fused", None)  # a rehearsal has no kernels; its state is the same
        made: torch.optim.Optimizer = getattr(torch.optim, self.kind)(trained, **settings)
        return made

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({settings})"


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> OptimizerSpec:
    return OptimizerSpec("SGD", {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})


def adam(
    lr: float, betas: tuple[float, float] | None = None, weight_decay: float = 0.0
) -> OptimizerSpec:
    """What is left at torch's default is not shown."""
    more = {"betas": betas, "weight_decay": weight_decay}
    chosen = {name: value for name, value in more.items() if value}
    return OptimizerSpec("Adam", {"lr": lr, **chosen})


def adamw(lr: float, weight_decay: float = 0.01, **more: bool) -> OptimizerSpec:
    """``fused=True`` for the kernel that does a step in one pass."""
    return OptimizerSpec("AdamW", {"lr": lr, "weight_decay": weight_decay, **more})


def adadelta(lr: float) -> OptimizerSpec:
    return OptimizerSpec("Adadelta", {"lr": lr})
