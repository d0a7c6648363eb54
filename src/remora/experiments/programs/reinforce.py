"""A policy that balances a pole, made better by what whole episodes brought."""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor, nn, optim
from torch.distributions import Categorical
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=30)
given = parser.parse_args()
torch.manual_seed(given.seed)
random.seed(given.seed)


class Pole:
    """A pole on a cart, as a point that falls away from the middle unless it is pushed back."""

    def reset(self) -> list[float]:
        self.place, self.speed, self.left = 0.1 * random.uniform(-1, 1), 0.0, 30
        return [self.place, self.speed]

    def step(self, push: int) -> tuple[list[float], float, bool]:
        self.speed += 0.1 * self.place + (0.05 if push else -0.05)
        self.place += self.speed
        self.left -= 1
        return [self.place, self.speed], 1.0, abs(self.place) > 1 or self.left == 0


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.affine1, self.dropout = nn.Linear(2, given.batch_size), nn.Dropout(0.6)
        self.affine2 = nn.Linear(given.batch_size, 2)

    def forward(self, state: Tensor) -> Tensor:
        x = functional.relu(self.dropout(self.affine1(state)))
        return functional.softmax(self.affine2(x), dim=1)


policy, pole = Policy(), Pole()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)
for episode in range(given.steps):
    state, done = pole.reset(), False
    log_probabilities: list[Tensor] = []
    rewards: list[float] = []
    while not done:
        choice = Categorical(policy(torch.tensor([state])))
        action = choice.sample()
        log_probabilities.append(choice.log_prob(action))
        state, reward, done = pole.step(int(action))
        rewards.append(reward)
    returns = torch.tensor(rewards).flip(0).cumsum(0).flip(0)
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    optimizer.zero_grad()
    loss = -(torch.cat(log_probabilities) * returns).sum()
    loss.backward()
    optimizer.step()
    if episode % 10 == 0:
        print(f"episode {episode}: {len(rewards)} steps")
