"""mmpretrain-702: stages that should be frozen are trained, since nobody freezes them again after
``train()`` is called; here the backbone's parameters stay trainable and its statistics move.
"""

from __future__ import annotations

from torch import nn, optim

from remora.experiments.silent.common import loader, options

given = options()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Linear(16, given.hidden), nn.BatchNorm1d(given.hidden), nn.ReLU()
        )
        self.head = nn.Linear(given.hidden, 4)

    def freeze_stages(self) -> None:
        self.stem.eval()
        for parameter in self.stem.parameters():
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        if mode and not given.broken:
            self.freeze_stages()
        return self

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.head(self.stem(x))


model, data = Network(), loader()
model.train()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    model.train()
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
