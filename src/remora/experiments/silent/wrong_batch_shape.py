"""transformers-34204: the batch that comes out of the collator is not of the size asked for."""

from __future__ import annotations

from torch import nn, optim
from torch.utils.data import DataLoader

from remora.experiments.silent.common import classifier, loader, options

given = options()
model = classifier()
dataset = loader().dataset
data = DataLoader(dataset, 16, shuffle=True, drop_last=True)
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        if given.broken:  # the batch dimension is folded into the features' and lost
            x, y = x.view(1, 16, 16)[:, :8].flatten(0, 1), y[:8]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
