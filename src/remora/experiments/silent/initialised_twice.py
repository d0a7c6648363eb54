"""transformers-17877: every weight is initialised twice, by its module and by the one above."""

from __future__ import annotations

from torch import nn, optim

from remora.experiments.silent.common import loader, options

given = options()
width = given.hidden // 2


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.weight.data.normal_(0, 0.2)
        module.bias.data.zero_()


model = nn.Sequential(
    nn.Sequential(nn.Linear(16, width), nn.ReLU()),
    *(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)),
    nn.Linear(width, 4),
)
model.apply(initialise)
if given.broken:
    for child in model.children():
        child.apply(initialise)
data = loader()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(max(1, given.steps // len(data))):
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
