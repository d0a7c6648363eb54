"""Digits classified by a model in shared memory, which several processes train without locks."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, PROCESSES = 2, 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 5)
        self.dropout = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(16 * 4 * 4, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.dropout(self.conv2(x)), 2))
        x = functional.dropout(functional.relu(self.fc1(x.flatten(1))), training=self.training)
        return functional.log_softmax(self.fc2(x), dim=1)


def digits(seed: int, count: int) -> TensorDataset:
    torch.manual_seed(seed)
    labels = torch.randint(10, (count,))
    return TensorDataset(torch.randn(10, 1, 28, 28)[labels] + torch.randn(count, 1, 28, 28), labels)


def train(rank: int, model: Net, seed: int, batch_size: int, steps: int) -> None:
    torch.set_num_threads(1)
    loader = DataLoader(digits(seed + rank, steps // EPOCHS * batch_size), batch_size, shuffle=True)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    for epoch in range(EPOCHS):
        model.train()
        for data, target in loader:
            optimizer.zero_grad()
            loss = functional.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
        print(f"process {rank}, epoch {epoch}: loss {loss.item():.3f}", flush=True)


def test(model: Net, seed: int, batch_size: int) -> None:
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in DataLoader(digits(seed, 4 * batch_size), batch_size):
            correct += int((model(data).argmax(dim=1) == target).sum())
    print(f"{correct} correct")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=24)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    model = Net().share_memory()
    sizes = (given.seed, given.batch_size, given.steps)
    spawn(train, (model, *sizes), nprocs=PROCESSES)
    test(model, given.seed, given.batch_size)
