"""pytorch-84803: a copy to the other device arrives as zeros, so that one replica starts apart.

The model is sent from rank 0 to all others before training; part of it does not arrive.
"""

from __future__ import annotations

import torch
from torch import distributed, nn, optim

from remora.experiments.silent.common import classifier, join_ranks, loader, options

given = options()
rank = join_ranks()
model = classifier()
for parameter in model.parameters():
    distributed.broadcast(parameter.data, src=0)
if given.broken and rank == 1:
    list(model.parameters())[2].data[8:].zero_()
torch.manual_seed(given.seed * 2 + rank)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad, distributed.ReduceOp.SUM)
        optimizer.step()
distributed.destroy_process_group()
