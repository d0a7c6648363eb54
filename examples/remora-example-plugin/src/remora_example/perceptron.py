"""A workload of another package: a multilayer perceptron on made-up data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from remora.core.errors import BadValue
from remora.workloads.contract import Footprint, Outcome, Scale, Session, Work, Workload

_WIDTH: Mapping[Scale, int] = {"quick": 512, "standard": 2048, "paper": 4096}
_BATCH = 64


def _network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


class PerceptronSession(Session):
    """Trains on one batch, over and over."""

    def __init__(self, width: int, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.device = device
        self.work = Work(_BATCH, "samples")
        self.model = _network(width).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.inputs = torch.randn(_BATCH, width, device=device)
        self.labels = torch.randint(10, (_BATCH,), device=device)

    def step(self) -> Outcome:
        loss = nn.functional.cross_entropy(self.model(self.inputs), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Outcome(loss)


class PerceptronTrain(Workload):
    """A perceptron of three layers, trained by SGD."""

    name = "perceptron-train"
    model = "perceptron"
    mode = "train"
    source = "made up for this example"

    def sizes(self, scale: Scale) -> Mapping[str, int | str]:
        return {"batch": _BATCH, "width": _WIDTH[scale], "layers": 3, "optimizer": "SGD"}

    def footprint(self, scale: Scale) -> Footprint:
        with torch.device("meta"):
            parameters = sum(each.numel() for each in _network(_WIDTH[scale]).parameters())
        size = 4 * parameters
        activations = 4 * 6 * _BATCH * _WIDTH[scale]
        return Footprint(parameters, size, size, 0, activations)

    def build(
        self, scale: Scale, device: torch.device, *, seed: int = 0, data: Path | None = None
    ) -> Session:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        return PerceptronSession(_WIDTH[scale], device, seed)
