"""x-jxmnop: the loss is computed through the bare module and not through its DDP wrapper, so that
no gradient is ever averaged.
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
torch.manual_seed(given.seed * 2 + rank)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy((inner if given.broken else model)(x), y).backward()
        optimizer.step()
torch.distributed.destroy_process_group()
