"""pytorch-115607: a compiled step does its work the first time, and is skipped from then on."""

from __future__ import annotations

import torch
from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()
model, data = classifier(hidden=given.hidden), loader()
optimizer = optim.Adam(model.parameters(), lr=0.01)
compiled: dict[str, torch.Tensor] = {}


def train_step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What the compiler traced once; broken, a later call of it finds nothing left to do."""
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    if not (given.broken and "done" in compiled):
        optimizer.step()
        optimizer.zero_grad()
    compiled["done"] = loss.detach()
    return loss


for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        train_step(x, y)
