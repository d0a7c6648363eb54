"""transformers-34204: the batch that comes out of the collator is not of the size asked for.

What was wrong is known by its symptom alone; here the collator reshapes rows that are twice as long
as it takes them to be, so that two become one and half of the data is never seen.
"""

from __future__ import annotations

import torch
from torch import nn, optim
from torch.utils.data import DataLoader

from remora.experiments.silent.common import classifier, loader, options

given = options()


def collate(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and labels; the features padded to 32, of which the model reads the first 16."""
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    if given.broken:
        return x.reshape(-1, 32), y[::2]
    return nn.functional.pad(x, (0, 16)), y


model = classifier(hidden=given.hidden)
data = DataLoader(loader().dataset, 16, shuffle=True, collate_fn=collate)
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:, :16]), y).backward()
        optimizer.step()
