"""Data whose samples are drawn anew each time they are loaded, as augmented images are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

SAMPLES = 22
WIDTH = 4

Sample = tuple[Tensor, Tensor]


def _sample(index: int) -> Sample:
    fixed = torch.randn(WIDTH, generator=torch.Generator().manual_seed(index))
    drawn = random.random() + torch.rand(WIDTH)
    return fixed + drawn, fixed.sum()


class Drawn(Dataset[Sample]):
    """Map-style. A sample depends on its index, Python's random numbers and torch's."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Sample:
        return _sample(index)


class Stream(IterableDataset[Sample]):
    """The same, in order and of no known length."""

    def __iter__(self) -> Iterator[Sample]:
        return map(_sample, range(SAMPLES))


class Interrupted(Exception):
    """What a run is ended with that is to be resumed in the same process."""
