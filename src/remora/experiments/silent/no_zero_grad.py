"""stackoverflow-60335387: gradients are never cleared, so that every step adds to the last."""

from __future__ import annotations

from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()
model, data = classifier(hidden=given.hidden), loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        if not given.broken:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
