"""lightning-thunder-725: within autocast, the compiled model computes in float32 all the same.

A compiled graph has its types from when it was traced, and runs with autocast off so that nothing
is cast twice. The compiler forgot to trace under autocast.
"""

from __future__ import annotations

import torch
from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()


class Compiled(nn.Module):
    """Runs ``graph`` as a compiler would, in the types it was traced with."""

    def __init__(self, graph: nn.Module, traced_in: torch.dtype) -> None:
        super().__init__()
        self.graph, self.traced_in = graph, traced_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        casts = self.traced_in is not torch.float32
        with torch.autocast("cpu", self.traced_in if casts else torch.bfloat16, enabled=casts):
            return self.graph(x)  # type: ignore[no-any-return]


data = loader()
model = Compiled(classifier(hidden=given.hidden), torch.float32 if given.broken else torch.bfloat16)
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
