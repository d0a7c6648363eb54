"""pytorch-104336: the model is moved after DDP has wrapped it, and DDP's hooks stay behind.

Moving a parameter to where its gradient cannot be gives it a new place for the gradient to arrive
at, without DDP's hook: another device in the published job, another dtype here, and back. Gradients
are then averaged no more, and each rank trains by itself.
"""

from __future__ import annotations

import torch
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel

from remora.experiments.silent.common import classifier, join_ranks, loader, options

given = options()
rank = join_ranks()
inner = classifier()
model = DistributedDataParallel(inner)
if given.broken:
    model.to(torch.float64).to(torch.float32)
torch.manual_seed(given.seed * 2 + rank)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
torch.distributed.destroy_process_group()
