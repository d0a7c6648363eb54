"""Sine waves continued by two LSTM cells, in double precision and with L-BFGS."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=8)
given = parser.parse_args()
torch.manual_seed(given.seed)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm1, self.lstm2 = nn.LSTMCell(1, 12), nn.LSTMCell(12, 12)
        self.linear = nn.Linear(12, 1)

    def forward(self, waves: Tensor, future: int = 0) -> Tensor:
        state = [torch.zeros(len(waves), 12, dtype=torch.double) for _ in range(4)]
        outputs = [self.advance(moment, state) for moment in waves.split(1, dim=1)]
        for _ in range(future):
            outputs.append(self.advance(outputs[-1], state))
        return torch.cat(outputs, dim=1)

    def advance(self, moment: Tensor, state: list[Tensor]) -> Tensor:
        state[0], state[1] = self.lstm1(moment, (state[0], state[1]))
        state[2], state[3] = self.lstm2(state[0], (state[2], state[3]))
        output: Tensor = self.linear(state[2])
        return output


begins = torch.randint(-40, 40, (given.batch_size, 1))
waves = torch.sin((torch.arange(24) + begins).double() / 5.0)
inputs, targets = waves[3:, :-1], waves[3:, 1:]
test_inputs, test_targets = waves[:3, :-1], waves[:3, 1:]
sequence = Sequence()
sequence.double()
criterion = nn.MSELoss()
optimizer = optim.LBFGS(sequence.parameters(), lr=0.8, max_iter=6)


def closure() -> Tensor:
    optimizer.zero_grad()
    loss: Tensor = criterion(sequence(inputs), targets)
    loss.backward()
    return loss


for step in range(given.steps):
    optimizer.step(closure)
    with torch.no_grad():
        prediction = sequence(test_inputs, future=10)
        loss = criterion(prediction[:, :-10], test_targets)
    print(f"step {step}: test loss {loss.item():.4f}")
