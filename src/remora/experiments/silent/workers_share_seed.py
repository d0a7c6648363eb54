"""stackoverflow-67180955: worker processes inherit one numpy seed, and augment alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

from remora.experiments.silent.common import classifier, options

given = options()


class Augmented(Dataset):  # type: ignore[type-arg]
    """Noise alone: what two workers draw alike is alike."""

    def __len__(self) -> int:
        return 128

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        return torch.from_numpy(np.random.randn(16).astype("float32")), index % 4


def seed_worker(worker: int) -> None:
    np.random.seed(given.seed if given.broken else (torch.initial_seed() + worker) % 2**32)


if __name__ == "__main__":
    model = classifier(hidden=given.hidden)
    data = DataLoader(Augmented(), 16, num_workers=2, worker_init_fn=seed_worker)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    for _ in range(max(1, given.steps // len(data))):
        for x, y in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
