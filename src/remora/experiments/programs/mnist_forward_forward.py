"""Digits learned layer by layer, each layer by what it makes of right and of wrong labels."""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from torch import Tensor, nn, optim

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
THRESHOLD = 2.0


class Layer(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.relu = nn.ReLU()
        self.optimizer = optim.Adam(self.parameters(), lr=0.02)

    def forward(self, x: Tensor) -> Tensor:
        direction = x / (x.norm(2, 1, keepdim=True) + 1e-4)
        activity: Tensor = self.relu(torch.mm(direction, self.weight.T) + self.bias)
        return activity

    def learn(self, right: Tensor, wrong: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        for step in range(steps):
            good, bad = self(right).pow(2).mean(1), self(wrong).pow(2).mean(1)
            margins = torch.cat([THRESHOLD - good, bad - THRESHOLD])
            loss = torch.log(1 + torch.exp(margins)).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 10 == 0:
                print(f"step {step}: loss {loss.item():.3f}")
        return self(right).detach(), self(wrong).detach()


class Net(nn.Module):
    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(inputs, outputs) for inputs, outputs in pairwise(sizes)])

    def predict(self, x: Tensor) -> Tensor:
        goodness = []
        for label in range(10):
            h, total = labelled(x, torch.full((len(x),), label)), torch.zeros(len(x))
            for layer in self.layers:
                h = layer(h)
                total = total + h.pow(2).mean(1)
            goodness.append(total)
        return torch.stack(goodness, 1).argmax(1)


def labelled(x: Tensor, labels: Tensor) -> Tensor:
    """The label is written over the first pixels."""
    x = x.clone()
    x[:, :10] = 0.0
    x[range(len(x)), labels] = x.max()
    return x


labels = torch.randint(10, (8 * given.batch_size,))
images = torch.randn(10, 196)[labels] + 0.5 * torch.randn(len(labels), 196)
right, wrong = labelled(images, labels), labelled(images, labels[torch.randperm(len(labels))])
net = Net([196, 64, 64])
for layer in net.layers:
    right, wrong = layer.learn(right, wrong, given.steps // 2)  # type: ignore[operator]
with torch.no_grad():
    print(f"{int((net.predict(images) == labels).sum())} correct")
