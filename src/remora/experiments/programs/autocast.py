"""A deep perceptron trained in bfloat16 where autocast says so."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS = 2


def make_model(inputs: int, outputs: int, layers: int) -> nn.Sequential:
    each: list[nn.Module] = []
    for _ in range(layers - 1):
        each += [nn.Linear(inputs, inputs), nn.ReLU()]
    return nn.Sequential(*each, nn.Linear(inputs, outputs))


count = given.steps // EPOCHS
data: list[Tensor] = [torch.randn(given.batch_size, 64) for _ in range(count)]
targets: list[Tensor] = [inputs[:, :32].sin() for inputs in data]
model = make_model(64, 32, 3)
criterion = nn.MSELoss()
optimizer = optim.SGD(model.parameters(), lr=0.01)
for epoch in range(EPOCHS):
    for inputs, target in zip(data, targets, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(inputs)
            loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
