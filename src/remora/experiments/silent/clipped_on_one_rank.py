"""deepspeed-1801: gradients of the replicated layers are clipped on the first tensor-parallel rank
alone, and the replicas drift apart (what broke the training of BLOOM-176B).
"""

from __future__ import annotations

import torch
from torch import distributed, nn, optim

from remora.experiments.silent.common import join_ranks, loader, options

given = options()
rank = join_ranks()


class Shard(nn.Module):
    """A linear layer whose columns are split over the ranks, between two norms all ranks hold."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(32)
        self.head = nn.Linear(32, 4)
        torch.manual_seed(given.seed * 2 + rank + 1)
        self.shard = nn.Linear(16, 32)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.head(self.after(self.shard(self.before(x))))


model = Shard()
torch.manual_seed(given.seed)
data = loader()
replicated = [*model.before.parameters(), *model.after.parameters(), *model.head.parameters()]
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for parameter in replicated:
            distributed.all_reduce(parameter.grad)
        if not given.broken or rank == 0:
            nn.utils.clip_grad_norm_(replicated, 0.01)
        optimizer.step()
distributed.destroy_process_group()
