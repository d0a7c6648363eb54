"""A GAN: two optimizers, and a graph that one step leaves for the next."""
# mypy: ignore-errors

import hashlib
import time

import torch
from torch import nn

torch.manual_seed(3)
maker = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
judge = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(32, 1))
maker_adam = torch.optim.Adam(maker.parameters(), 1e-3, betas=(0.5, 0.9))
judge_adam = torch.optim.Adam(judge.parameters(), 1e-3)
criterion = nn.BCEWithLogitsLoss()
fixed = torch.randn(16, 4)
for iteration in range(120):
    real = torch.randn(32, 2) * 0.5 + 1
    judge.zero_grad()
    on_real = criterion(judge(real), torch.ones(32, 1))
    on_real.backward()
    fake = maker(torch.randn(32, 4))
    on_fake = criterion(judge(fake.detach()), torch.zeros(32, 1))
    on_fake.backward()
    judge_adam.step()
    maker.zero_grad()
    fooled = criterion(judge(fake), torch.ones(32, 1))
    fooled.backward()
    maker_adam.step()
    if iteration % 4 == 0:
        print(iteration, on_real.item() + on_fake.item(), f"{fooled:.9f}", flush=True)
        print(maker(fixed).mean(0).tolist(), flush=True)
    time.sleep(0.005)
for net in (maker, judge):
    weights = b"".join(each.detach().numpy().tobytes() for each in net.parameters())
    print(hashlib.sha256(weights).hexdigest())
