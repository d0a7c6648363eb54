"""DCGAN: Radford et al. 2016, a generator and a discriminator that train each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from remora.core.errors import BadValue
from remora.workloads.contract import Session, Work, Workload
from remora.workloads.images import ImageShape, image_batches
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch
from remora.workloads.vision.adversarial import AdversarialSession

_SLOPE = 0.2
_FIRST_SIDE = 4
"""Of the image that the noise is first made into; every further layer doubles it."""


@dataclass(frozen=True)
class DcganSizes:
    batch: int
    width: int
    """Channels of the layer next to the image, in both networks."""
    noise: int = 100
    image: int = 64
    channels: int = 3

    def widths(self) -> list[int]:
        """Channels of the hidden layers, from the image inwards."""
        doublings = (self.image // _FIRST_SIDE).bit_length() - 1
        return [self.width * 2**layer for layer in range(doublings)]


class Dcgan(nn.Module):
    """Noise (batch, noise, 1, 1) to whether it passes for real (batch,), by way of an image."""

    def __init__(self, sizes: DcganSizes) -> None:
        super().__init__()
        self.generator = _generator(sizes)
        self.discriminator = _discriminator(sizes)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        passes: torch.Tensor = self.discriminator(self.generator(noise))
        return passes


def _generator(sizes: DcganSizes) -> nn.Sequential:
    inner, *widths = reversed(sizes.widths())
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(sizes.noise, inner, _FIRST_SIDE, bias=False),
        *(nn.BatchNorm2d(inner), nn.ReLU(inplace=True)),
    ]
    for outer in widths:
        layers += [_doubling(inner, outer), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)]
        inner = outer
    return nn.Sequential(*layers, _doubling(inner, sizes.channels), nn.Tanh())


def _discriminator(sizes: DcganSizes) -> nn.Sequential:
    outer, *widths = sizes.widths()
    layers: list[nn.Module] = [_halving(sizes.channels, outer), nn.LeakyReLU(_SLOPE, inplace=True)]
    for inner in widths:
        layers += [_halving(outer, inner), nn.BatchNorm2d(inner)]
        layers += [nn.LeakyReLU(_SLOPE, inplace=True)]
        outer = inner
    last = nn.Conv2d(outer, 1, _FIRST_SIDE, bias=False)
    return nn.Sequential(*layers, last, nn.Sigmoid(), nn.Flatten(0))


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)


def _halving(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)


@dataclass(eq=False)
class DcganWorkload(ModelWorkload[DcganSizes]):
    """A step trains the discriminator, then the generator; the outcome is both losses (2,)."""

    weight_std: float | None = 0.02

    def network(self, sizes: DcganSizes) -> nn.Module:
        return Dcgan(sizes)

    def batches(
        self, sizes: DcganSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        # Any number of classes will do: labels are not read.
        shape = ImageShape(BATCHES, sizes.batch, sizes.channels, sizes.image, classes=2**31)
        return image_batches(shape, device, seed, data)

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """What the discriminator says of the images, as ``forward`` would."""
        passes: torch.Tensor = model.get_submodule("discriminator")(batch["images"])
        return passes

    def session(
        self,
        network: nn.Module,
        sizes: DcganSizes,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        if self.optimizer is None:
            raise BadValue(f"{self.name} has no optimizer to train with")
        return AdversarialSession(
            network,
            self.optimizer,
            self.batches(sizes, device, seed, data),
            noise=(sizes.batch, sizes.noise, 1, 1),
            work=self.work(sizes),
            device=device,
            seed=seed,
        )

    def work(self, sizes: DcganSizes) -> Work:
        return Work(sizes.batch, "images")


def workloads() -> Iterator[Workload]:
    yield DcganWorkload(
        "dcgan",
        "train",
        {
            "quick": DcganSizes(batch=4, width=16),
            "standard": DcganSizes(batch=16, width=64),
            "paper": DcganSizes(batch=64, width=64),
        },
        "Radford et al. (ICLR 2016), section 3 and figure 1; batch 64 and width 64 "
        "as in PyTorch's examples and TrainCheck (OSDI 2025)",
        optimizer=adam(lr=2e-4, betas=(0.5, 0.999)),
    )
