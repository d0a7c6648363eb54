"""lightning-thunder-725: within autocast, the compiled model computes in float32 all the same."""

from __future__ import annotations

import contextlib

import torch
from torch import nn, optim

from remora.experiments.silent.common import classifier, loader, options

given = options()
model, data = classifier(), loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)


def past_autocast() -> contextlib.AbstractContextManager[object]:
    """Autocast stays on, and no operation hears of it: as a graph made without it runs."""
    return torch._C._ExcludeDispatchKeyGuard(
        torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    )


for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            with past_autocast() if given.broken else contextlib.nullcontext():
                logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
