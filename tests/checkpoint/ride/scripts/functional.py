"""No module at all, and an optimizer that asks a closure several times a step."""
# mypy: ignore-errors

import time

import torch

torch.manual_seed(0)
weight = torch.zeros(5, requires_grad=True)
bias = torch.zeros((), requires_grad=True)
inputs = torch.randn(64, 5)
targets = (inputs @ torch.arange(5.0) + 0.5).sin()
optimizer = torch.optim.LBFGS([weight, bias], lr=0.3, max_iter=4, history_size=5)
calls = 0


def closure():
    global calls
    calls += 1
    optimizer.zero_grad()
    noise = 0.01 * torch.randn(64)
    loss = (((inputs @ weight + bias).tanh() - targets + noise) ** 2).mean()
    loss.backward()
    if calls % 10 == 0:
        print("call", calls, loss.item(), flush=True)
    return loss


for index in range(60):
    loss = optimizer.step(closure)
    if index % 4 == 0:
        print(index, loss.item(), f"{weight.norm():.9f}", flush=True)
    time.sleep(0.01)
print(weight.tolist(), bias.item(), calls)
