"""A plain loop without a data loader: batches drawn by hand, dropout, a mean kept in a tensor."""
# mypy: ignore-errors

import hashlib
import time

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
inputs = torch.randn(512, 8)
targets = inputs.pow(2).sum(1, keepdim=True)
running = torch.zeros(())
losses = []
for step in range(120):
    chosen = torch.randint(0, 512, (32,))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(inputs[chosen]), targets[chosen])
    loss.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    running += loss.detach()
    losses.append(loss.item())
    if step % 4 == 3:
        mean = sum(losses) / len(losses)
        print(step, f"{loss:.9f}", repr(mean), float(running), norm, flush=True)
        running.zero_()
    time.sleep(0.005)
weights = b"".join(each.detach().numpy().tobytes() for each in net.parameters())
print(hashlib.sha256(weights).hexdigest())
