"""baichuan2-86: a faulty link zeroes part of the parameters that a sharded optimizer gathers back.

Each rank updates its half of the parameters and, before its optimizer's step is over, sends it to
the other.
"""

from __future__ import annotations

import torch
from torch import distributed, nn, optim

from remora.experiments.silent.common import classifier, join_ranks, loader, options

given = options()
rank = join_ranks()
model = classifier()
torch.manual_seed(given.seed * 2 + rank)
data = loader()
parameters = list(model.parameters())
optimizer = optim.Adam([p for i, p in enumerate(parameters) if i % 2 == rank], lr=0.01)
step = 0


def gather(*_: object) -> None:
    for position, parameter in enumerate(parameters):
        distributed.broadcast(parameter.data, src=position % 2)
    if given.broken and rank == 1 and step == given.steps // 2:
        parameters[0].data[:4].zero_()


optimizer.register_step_post_hook(gather)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for parameter in parameters:
            distributed.all_reduce(parameter.grad)
        optimizer.step()
        step += 1
distributed.destroy_process_group()
