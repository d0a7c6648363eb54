"""accelerate-2665: the optimizer was made before the model was prepared, and holds the parameters
of the model as it was, which nobody trains.
"""

from __future__ import annotations

import copy

from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()
model, data = classifier(hidden=given.hidden), loader()
optimizer = optim.AdamW(model.parameters(), lr=0.01)
prepared = copy.deepcopy(model) if given.broken else model
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(prepared(x), y).backward()
        optimizer.step()
