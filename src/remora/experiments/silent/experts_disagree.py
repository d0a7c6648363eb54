"""deepspeed-5794: ranks give all_to_all sizes that do not agree, since each counts its own tokens.

In the published job that hung; here the ranks pad to what they think is the capacity, and what
one sends is not what the other expects, so tokens are lost instead.
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


def exchange(tokens: torch.Tensor, capacity: int) -> torch.Tensor:
    """Half of the tokens to each rank, at most ``capacity`` of them."""
    received = [torch.zeros(capacity, tokens.shape[1]) for _ in range(2)]
    for source in range(2):
        part = torch.zeros(8, tokens.shape[1])
        part[:capacity] = tokens[:capacity]
        distributed.broadcast(part, src=source)
        received[source].copy_(part[:capacity])
    return torch.cat(received)


for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        capacity = 8 if not given.broken or rank == 0 else 6
        moved = exchange(x[:8], capacity)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) + 0.01 * model(moved).square().mean()
        loss.backward()
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad)
        optimizer.step()
distributed.destroy_process_group()
