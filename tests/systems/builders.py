"""A session small enough for unit tests: a linear model, SGD with momentum, fixed data."""

from __future__ import annotations

import torch
from torch import nn

from remora.systems.contract import System
from remora.workloads.contract import Outcome, Session, Work


class TinySession(Session):
    """Eight samples a step through two layers."""

    optimizer: torch.optim.Optimizer

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.device = torch.device("cpu")
        self.work = Work(8, "samples")
        self.inputs, self.targets = torch.randn(8, 8), torch.randn(8, 1)

    def step(self) -> Outcome:
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(self.inputs), self.targets)
        loss.backward()
        self.optimizer.step()
        return Outcome(loss)


class TinyInference(TinySession):
    """The same layers, called without gradients."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.model.eval()

    @torch.no_grad()
    def step(self) -> Outcome:
        output: torch.Tensor = self.model(self.inputs)
        return Outcome(output)


def session_for(system: type[System] | System, seed: int = 0) -> TinySession:
    """One that ``system`` can ride."""
    return TinySession(seed) if system.trains else TinyInference(seed)
