"""transformers-33844: attention's dropout is called without its mode, and drops in evaluation."""

from __future__ import annotations

import torch
from torch import nn, optim
from torch.nn import functional

from remora.experiments.silent.common import loader, options

given = options()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, given.hidden // 4) for _ in range(3))
        self.out = nn.Linear(given.hidden, 4)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = x.view(-1, 4, 4)
        weights = torch.softmax(
            self.query(x) @ self.key(x).mT / self.query.out_features**0.5, dim=-1
        )
        training = True if given.broken else self.training
        weights = functional.dropout(weights, 0.2, training=training)
        return self.out((weights @ self.value(x)).flatten(1))


model, data = Network(), loader()
optimizer = optim.Adam(model.parameters(), lr=0.01)
for _ in range(max(1, given.steps // len(data))):
    model.train()
    for x, y in data:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, _ in data:
            model(x).argmax(-1)
