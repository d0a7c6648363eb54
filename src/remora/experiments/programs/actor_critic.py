"""A policy that balances a pole, beside a critic that foretells what an episode will bring."""

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
        self.affine = nn.Linear(2, 2 * given.batch_size)
        self.action_head = nn.Linear(2 * given.batch_size, 2)
        self.value_head = nn.Linear(2 * given.batch_size, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.affine(state))
        return functional.softmax(self.action_head(x), dim=-1), self.value_head(x)


def episode(model: Policy, pole: Pole) -> tuple[list[Tensor], list[Tensor], list[float]]:
    state, done = pole.reset(), False
    chosen: list[Tensor] = []
    values: list[Tensor] = []
    rewards: list[float] = []
    while not done:
        probabilities, value = model(torch.tensor(state))
        choice = Categorical(probabilities)
        action = choice.sample()
        chosen.append(choice.log_prob(action))
        values.append(value)
        state, reward, done = pole.step(int(action))
        rewards.append(reward)
    return chosen, values, rewards


def finish_episode(chosen: list[Tensor], values: list[Tensor], rewards: list[float]) -> Tensor:
    returns = torch.tensor(rewards).flip(0).cumsum(0).flip(0)
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    policy_losses, value_losses = [], []
    for log_probability, value, gain in zip(chosen, values, returns, strict=True):
        policy_losses.append(-log_probability * (gain - value.item()))
        value_losses.append(functional.smooth_l1_loss(value, gain.view(1)))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    return loss


model, pole = Policy(), Pole()
optimizer = optim.Adam(model.parameters(), lr=3e-2)
for number in range(given.steps):
    loss = finish_episode(*episode(model, pole))
    if number % 10 == 0:
        print(f"episode {number}: loss {loss.item():.3f}")
