"""No forward at all: an optimizer that keeps the interpreter busy."""
# mypy: ignore-errors

import time

import torch

weight = torch.zeros(5, requires_grad=True)
target = torch.linspace(-1, 1, 5)
optimizer = torch.optim.LBFGS([weight], lr=0.1, max_iter=8, history_size=4)


def closure():
    optimizer.zero_grad()
    loss = ((weight - target) ** 4).sum()
    loss.backward()
    return loss


for step in range(1, 7):
    time.sleep(0.1)
    optimizer.step(closure)
    print(step, optimizer.state[weight]["prev_flat_grad"].norm().item())
