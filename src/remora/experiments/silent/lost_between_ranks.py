"""pytorch-96600: a collective loses part of what it moves, on one rank, now and then.

Gradients are averaged over the ranks; from some step on a quarter of what rank 1 receives is zero.
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
optimizer = optim.SGD(model.parameters(), lr=0.05)


def average(gradient: torch.Tensor, step: int) -> None:
    distributed.all_reduce(gradient)
    gradient /= distributed.get_world_size()
    if given.broken and rank == 1 and step >= given.steps // 2:
        gradient.view(-1)[: gradient.numel() // 4].zero_()


step = 0
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for parameter in model.parameters():
            average(parameter.grad, step)  # type: ignore[arg-type]
        optimizer.step()
        step += 1
distributed.destroy_process_group()
