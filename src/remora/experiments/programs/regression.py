"""A polynomial fitted by a linear layer; the update is written out, there is no optimizer."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=60)
given = parser.parse_args()
torch.manual_seed(given.seed)
DEGREE = 4
weights, bias = torch.randn(DEGREE, 1) * 5, torch.randn(1) * 5


def powers(x: Tensor) -> Tensor:
    return torch.cat([x.unsqueeze(1) ** power for power in range(1, DEGREE + 1)], 1)


def batch(size: int) -> tuple[Tensor, Tensor]:
    x = powers(torch.randn(size))
    return x, x.mm(weights) + bias


layer = nn.Linear(DEGREE, 1)
for _ in range(given.steps):
    x, y = batch(given.batch_size)
    layer.zero_grad()
    loss = functional.smooth_l1_loss(layer(x), y)
    loss.backward()
    for parameter in layer.parameters():
        if parameter.grad is not None:
            parameter.data.add_(-0.1 * parameter.grad)
print(f"loss {loss.item():.3f}, weights {layer.weight.view(-1).tolist()}")
