"""What the programs share: their options, a small data set and a small classifier."""

from __future__ import annotations

import argparse
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def options() -> argparse.Namespace:
    """``--broken``, ``--seed``, ``--steps`` and ``--hidden``; the seed is set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=32, help="the size of the model")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    return given


def loader(rows: int = 128, width: int = 16, classes: int = 4, batch: int = 16) -> DataLoader:  # type: ignore[type-arg]
    """Points around one centre a class."""
    labels = torch.randint(classes, (rows,))
    centres = torch.randn(classes, width) * 3
    return DataLoader(
        TensorDataset(centres[labels] + torch.randn(rows, width), labels), batch, shuffle=True
    )


def classifier(width: int = 16, hidden: int = 32, classes: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def join_ranks() -> int:
    """This process's rank in a job of several, over gloo."""
    torch.distributed.init_process_group("gloo")
    return int(os.environ["RANK"])
