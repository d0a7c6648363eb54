"""pytorch-51800: spectral normalisation is used in evaluation before any training forward has
brought its vectors to where they belong.
"""

from __future__ import annotations

import torch
from torch import nn, optim
from torch.nn.utils.parametrizations import spectral_norm

from remora.experiments.silent.common import loader, options

given = options()
model = nn.Sequential(
    spectral_norm(nn.Linear(16, given.hidden)), nn.ReLU(), spectral_norm(nn.Linear(given.hidden, 4))
)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)


def evaluate() -> None:
    model.eval()
    with torch.no_grad():
        for x, _ in data:
            model(x).argmax(-1)


if given.broken:
    evaluate()
for _ in range(max(3, given.steps // len(data))):
    model.train()
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    evaluate()
