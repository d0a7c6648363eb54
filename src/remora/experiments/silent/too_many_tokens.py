"""transformers-23723: generation goes on past ``max_new_tokens``."""

from __future__ import annotations

import torch
from torch import nn, optim

from remora.experiments.silent.common import options

given = options()


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(32, 16), nn.Linear(16, 32)

    def forward(self, ids):  # type: ignore[no-untyped-def]
        return self.out(self.embed(ids).cumsum(1))


def generate(model: nn.Module, ids: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
    """New tokens only."""
    begin, surplus = ids.shape[1], 3 if given.broken else 0
    for _ in range(max_new_tokens + surplus):
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
    return ids[:, begin:]


model = Language()
optimizer = optim.Adam(model.parameters(), lr=0.01)
for step in range(given.steps):
    ids = torch.randint(32, (8, 12))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimizer.step()
    if step % 4 == 3:
        with torch.no_grad():
            generate(model, ids[:, :4], max_new_tokens=8)
