"""transformers-23723: generation goes on past ``max_new_tokens``.

A prompt does not count as new tokens. Of a long one only the end is used; what it adds to the limit
is reckoned before it is cut, so that what was cut off is generated on top.
"""

from __future__ import annotations

import torch
from torch import nn, optim

from remora.experiments.silent.common import options

LONGEST_PROMPT = 4
given = options()


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(32, given.hidden // 2), nn.Linear(given.hidden // 2, 32)

    def forward(self, ids):  # type: ignore[no-untyped-def]
        return self.out(self.embed(ids).cumsum(1))


def generate(model: nn.Module, prompt: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
    """The new tokens only."""
    longest = prompt.shape[1] + max_new_tokens
    prompt = prompt[:, -LONGEST_PROMPT:]
    if not given.broken:
        longest = prompt.shape[1] + max_new_tokens
    ids = prompt
    while ids.shape[1] < longest:
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
    return ids[:, prompt.shape[1] :]


model = Language()
optimizer = optim.Adam(model.parameters(), lr=0.01)
for step in range(given.steps):
    ids = torch.randint(32, (8, 12))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimizer.step()
    if step % 4 == 3:
        with torch.no_grad():
            generate(model, ids[:, :6], max_new_tokens=8)
