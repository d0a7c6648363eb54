"""Mixed precision with steps that overflow, a hand-made average of the weights, a carried state."""
# mypy: ignore-errors

import copy
import time

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
average = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=7)
carried = torch.zeros(1, 6)
gradients = 0.0
for index in range(120):
    inputs = torch.randn(16, 6) + carried
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(inputs)
    loss = (out.float() - inputs.sum(1, keepdim=True)).pow(2).mean()
    overflows = index % 17 == 5
    scaler.scale(loss * float("inf") if overflows else loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not overflows:
        gradients += sum(each.grad.abs().sum().item() for each in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    with torch.no_grad():
        for mean, now in zip(average.parameters(), model.parameters(), strict=True):
            mean.data.mul_(0.9).add_(now.data, alpha=0.1)
        carried = 0.5 * carried + 0.01 * inputs.mean(0, keepdim=True)
    if index % 4 == 0:
        print(index, loss.item(), scaler.get_scale(), norm, carried.tolist(), gradients, flush=True)
    time.sleep(0.005)
print([each.sum().item() for each in (*average.parameters(), *model.parameters())])
print(optimizer.state_dict()["state"][0]["momentum_buffer"].sum())
