"""A toy model trained by several processes, whose gradients are averaged: run it by torchrun."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, distributed, nn, optim
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=40)
given = parser.parse_args()
torch.manual_seed(given.seed)
EPOCHS = 2


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net1, self.relu, self.net2 = nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net2(self.relu(self.net1(x)))
        return output


distributed.init_process_group("gloo")
rank, ranks = distributed.get_rank(), distributed.get_world_size()
inputs = torch.randn(given.steps // EPOCHS * given.batch_size * ranks, 10)
dataset = TensorDataset(inputs, inputs @ torch.randn(10, 5))
sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(dataset)
loader = DataLoader(dataset, given.batch_size, sampler=sampler)
model = DistributedDataParallel(ToyModel())
criterion = nn.MSELoss()
optimizer = optim.SGD(model.parameters(), lr=0.01)
for epoch in range(EPOCHS):
    sampler.set_epoch(epoch)
    for data, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
    if rank == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}")
distributed.destroy_process_group()
