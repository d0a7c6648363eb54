"""pytorch-forum-84911: the whole model is frozen, head included, and the optimizer changes nothing.

The forward is still differentiable, through an input that asks for its gradient.
"""

from __future__ import annotations

from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()
model, data = classifier(hidden=given.hidden), loader()
for parameter in (model if given.broken else model[0]).parameters():
    parameter.requires_grad_(False)
optimizer = optim.Adam(model.parameters(), lr=0.01)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.requires_grad_()), y).backward()
        optimizer.step()
