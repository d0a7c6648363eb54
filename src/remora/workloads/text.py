"""Batches of tokens: drawn, or read from a text file."""

from __future__ import annotations

import math

import torch


def draw_tokens(
    shape: tuple[int, ...], vocabulary: int, device: torch.device, seed: int
) -> torch.Tensor:
    """Token ids of ``shape`` whose frequencies fall as 1 / rank, as words do (Zipf's law).

    Drawn on the host, so that a seed gives the same tokens on every device.
    """
    if device.type == "meta":
        return torch.empty(shape, dtype=torch.int64, device=device)
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.rand(shape, generator=generator, dtype=torch.float64)
    ranks = torch.exp(exponent * math.log(vocabulary)).long() - 1
    return ranks.clamp_(0, vocabulary - 1).to(device)
