"""pytorch-104336: the model is moved after DDP has wrapped it, and DDP's hooks stay behind.

The parameters are replaced by new ones, as a move to another device does; gradients are then
averaged no more, and each rank trains by itself.
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
    for layer in inner:
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, nn.Parameter(parameter.detach().clone()))
torch.manual_seed(given.seed * 2 + rank)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
torch.distributed.destroy_process_group()
