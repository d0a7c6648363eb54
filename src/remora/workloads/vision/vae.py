"""A variational autoencoder of digits: Kingma and Welling 2014."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from remora.workloads.contract import Workload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch
from remora.workloads.vision.workload import VisionSizes, VisionWorkload


@dataclass(frozen=True)
class VaeSizes:
    batch: int
    hidden: int = 400
    latent: int = 20
    image: int = 28
    channels: int = 1
    classes: int = 10

    def network(self) -> nn.Module:
        return Vae(self)


class Vae(nn.Module):
    """Images (batch, pixels) to images, and to the means and log variances of their codes."""

    def __init__(self, sizes: VaeSizes) -> None:
        super().__init__()
        pixels = sizes.channels * sizes.image**2
        self.encoder = nn.Sequential(nn.Linear(pixels, sizes.hidden), nn.ReLU())
        self.mean = nn.Linear(sizes.hidden, sizes.latent)
        self.log_variance = nn.Linear(sizes.hidden, sizes.latent)
        self.decoder = nn.Sequential(
            nn.Linear(sizes.latent, sizes.hidden),
            nn.ReLU(),
            nn.Linear(sizes.hidden, pixels),
            nn.Sigmoid(),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        encoded = self.encoder(images)
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(code), mean, log_variance


@dataclass(eq=False)
class VaeWorkload(VisionWorkload):
    """The outcome is the bound of the likelihood, negated and summed over the batch."""

    def batches(
        self, sizes: VisionSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        """Pixels squeezed into 0 to 1, which the likelihood of section 3 (Bernoulli) needs."""
        drawn = super().batches(sizes, device, seed, data)
        return [{"pixels": batch["images"].flatten(1).sigmoid()} for batch in drawn]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        decoded, mean, log_variance = model(batch["pixels"])
        likelihood = binary_cross_entropy(decoded, batch["pixels"], reduction="sum")
        # Appendix B: how far the codes are from normal.
        divergence = (log_variance.exp() + mean.square() - 1 - log_variance).sum() / 2
        bound: torch.Tensor = likelihood + divergence
        return bound


def workloads() -> Iterator[Workload]:
    yield VaeWorkload(
        "vae",
        "train",
        {"quick": VaeSizes(batch=32), "standard": VaeSizes(128), "paper": VaeSizes(128)},
        "Kingma and Welling (ICLR 2014), as in PyTorch's examples: 784-400-20, batch 128, Adam; "
        "a workload of TrainCheck (OSDI 2025)",
        optimizer=adam(lr=1e-3),
    )
