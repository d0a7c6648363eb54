"""Two ranks under DistributedDataParallel, each with its own share of the data."""
# mypy: ignore-errors

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

dist.init_process_group("gloo")
rank = dist.get_rank()
Path(f"pid.{rank}").write_text(str(os.getpid()))
losses = open(f"losses.{rank}", "w")  # noqa: PTH123, SIM115  open until the end
torch.manual_seed(0)
inputs = torch.randn(128, 6)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
net = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
sampler = DistributedSampler(data, seed=4)
loader = DataLoader(data, batch_size=4, sampler=sampler)
torch.manual_seed(10 + rank)
for epoch in range(4):
    sampler.set_epoch(epoch)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        print(epoch, loss.item(), mean.item(), file=losses, flush=True)
        time.sleep(0.02)
total = sum(each.sum().item() for each in net.parameters())
os.write(1, f"rank {rank} {total}\n".encode())
dist.destroy_process_group()
